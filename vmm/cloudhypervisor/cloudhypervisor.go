// Package cloudhypervisor drives machines with Cloud Hypervisor, on Linux
// with a usable KVM. It owns one cloud-hypervisor process per machine and the
// sockets in the machine's directory; disks, kernel, initramfs and memory are
// inherited descriptors. Cloud Hypervisor's own seccomp filter is on, and its
// Landlock rules where the kernel has what they need.
//
// The guest's memory is a file that the two processes share. So a snapshot is
// Cloud Hypervisor's description of itself, which passes by the machine's
// directory, and a copy of that file; a restore is a process whose file has
// been filled, and whose description names its own files.
package cloudhypervisor

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// Driver starts machines with Cloud Hypervisor. The zero value finds out
// everything by itself.
type Driver struct {
	// Binary is the name or path of Cloud Hypervisor; empty means
	// cloud-hypervisor in PATH.
	Binary string
	// Place, if set, is told the monitor's process as soon as there is one,
	// such as to move it to a cgroup; its error ends the process.
	Place func(pid int) error

	probing sync.Mutex   // held while found is filled
	found   *vmm.Support // what a probe found; it holds for the driver's life
}

var _ vmm.Driver = (*Driver)(nil)

const defaultBinary = "cloud-hypervisor"

// minMajor is the first release whose vsock passes a half-close on.
const minMajor = 53

// Name is "cloudhypervisor".
func (d *Driver) Name() string { return "cloudhypervisor" }

// Probe looks for Cloud Hypervisor and for a usable KVM, once.
func (d *Driver) Probe(ctx context.Context) (vmm.Support, error) {
	d.probing.Lock()
	defer d.probing.Unlock()
	if d.found != nil {
		return *d.found, nil
	}
	s, err := d.look(ctx)
	if err != nil {
		return vmm.Support{}, fmt.Errorf("probing cloud-hypervisor: %w", err)
	}
	if s.Missing == "" {
		d.found = &s
	}
	return s, nil
}

func (d *Driver) look(ctx context.Context) (vmm.Support, error) {
	s := vmm.Support{Driver: "cloudhypervisor", Accel: "kvm", Snapshots: true}
	path, missing := d.find()
	if missing != "" {
		s.Missing = missing
		return s, nil
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return s, fmt.Errorf("running %s --version: %w", path, err)
	}
	major := 0
	if s.Version, major = parseVersion(string(out)); major < minMajor {
		s.Missing = fmt.Sprintf("%s is %q: release %d or newer is needed", path, monitor.Printable(string(out)), minMajor)
		return s, nil
	}
	k, err := vmm.ProbeKVM(ctx)
	if err == nil && !k.Usable {
		s.Missing = "KVM is not usable: " + k.Reason
	}
	return s, err
}

// find does what every start needs of a probe: it runs nothing.
func (d *Driver) find() (path, missing string) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", "the cloudhypervisor driver needs Linux on x86-64, this is " + runtime.GOOS + " on " + runtime.GOARCH
	}
	name := d.Binary
	if name == "" {
		name = defaultBinary
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Sprintf("cloud-hypervisor not found: install release %d or newer from github.com/cloud-hypervisor/cloud-hypervisor", minMajor)
	}
	return path, ""
}

var versionPattern = regexp.MustCompile(`cloud-hypervisor v([0-9]+(?:\.[0-9]+)*)`)

// parseVersion finds the version and its major part in what --version says.
func parseVersion(out string) (version string, major int) {
	m := versionPattern.FindStringSubmatch(out)
	if m == nil {
		return "", 0
	}
	head, _, _ := strings.Cut(m[1], ".")
	major, err := strconv.Atoi(head)
	if err != nil {
		return m[1], 0
	}
	return m[1], major
}
