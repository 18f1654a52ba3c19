// Package drivers knows the machine drivers by name and chooses the one for
// this host. It is the only place that lists them.
package drivers

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/cloudhypervisor"
	"github.com/xfeldman/aegisvm/vmm/qemu"
)

// The variables that choose a driver.
const (
	EnvDriver = "AEGIS_VMM"              // qemu or cloudhypervisor
	EnvCH     = "AEGIS_CLOUD_HYPERVISOR" // path of cloud-hypervisor
	EnvQEMU   = "AEGIS_QEMU"             // path of qemu-system-x86_64
)

// Options make a driver.
type Options struct {
	// Name is "qemu" or "cloudhypervisor".
	Name string
	// Binary is the monitor's path; empty means the usual name in PATH.
	Binary string
	// Accel is "kvm" or "tcg" for a driver that has the choice; empty lets
	// it find out.
	Accel string
	// ClockKHz is the host's clock for a driver that needs it; 0 lets it
	// find out.
	ClockKHz int
	// Place may put the monitor's process into a cgroup.
	Place func(pid int) error `json:"-"`
}

// New makes a driver.
func New(o Options) (vmm.Driver, error) {
	switch o.Name {
	case "qemu":
		return &qemu.Driver{Binary: o.Binary, Accel: o.Accel, ClockKHz: o.ClockKHz, Place: o.Place}, nil
	case "cloudhypervisor":
		return &cloudhypervisor.Driver{Binary: o.Binary, Place: o.Place}, nil
	}
	return nil, api.Errorf(api.InvalidArgument, "unknown machine driver %q: qemu or cloudhypervisor expected; set %s to one of them", o.Name, EnvDriver)
}

// Choose chooses the driver for this host: the one that AEGIS_VMM names, else
// Cloud Hypervisor where it is installed and KVM is usable, else QEMU, which
// may still miss something: Probe tells.
func Choose(ctx context.Context, getenv func(string) string) (Options, vmm.Driver, error) {
	names := []string{"cloudhypervisor", "qemu"}
	if name := getenv(EnvDriver); name != "" {
		names = []string{name}
	}
	var o Options
	var d vmm.Driver
	for _, name := range names {
		o = Options{Name: name, Binary: binary(name, getenv)}
		var err error
		if d, err = New(o); err != nil {
			return Options{}, nil, err
		}
		s, err := d.Probe(ctx)
		if err != nil {
			return Options{}, nil, fmt.Errorf("choosing a machine driver: %w", err)
		}
		o.Accel, o.ClockKHz = s.Accel, s.ClockKHz
		if s.Missing == "" {
			break
		}
	}
	return o, d, nil
}

// binary is the absolute path of a driver's monitor, empty if it is not
// there.
func binary(name string, getenv func(string) string) string {
	file, env := "qemu-system-x86_64", EnvQEMU
	if name == "cloudhypervisor" {
		file, env = "cloud-hypervisor", EnvCH
	}
	if set := getenv(env); set != "" {
		file = set
	}
	path, err := exec.LookPath(file)
	if err != nil {
		return ""
	}
	if path, err = filepath.Abs(path); err != nil {
		return ""
	}
	return path
}
