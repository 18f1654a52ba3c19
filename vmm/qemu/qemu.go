// Package qemu drives machines with QEMU: with KVM where the host has a
// usable one, in software emulation elsewhere. It owns one QEMU process per
// machine and the descriptors between the two; it opens no path but the
// kernel, the initramfs and QEMU itself, and leaves none behind. Everything
// that QEMU is given (disks, memory, console, monitor, guest streams) is an
// inherited descriptor: nothing listens and nothing polls.
package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"runtime"
	"sync"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// Driver starts machines with QEMU. The zero value finds out everything by
// itself.
type Driver struct {
	// Binary is the name or path of QEMU; empty means qemu-system-x86_64 in
	// PATH.
	Binary string
	// Accel is "kvm" or "tcg"; empty means KVM where it is usable.
	Accel string
	// ClockKHz is the frequency of the host's time stamp counter, for
	// emulated guests; 0 means to read it from /proc/cpuinfo, which a jail
	// does not have.
	ClockKHz int
	// Place, if set, is told the monitor's process as soon as there is one,
	// such as to move it to a cgroup; its error ends the process.
	Place func(pid int) error

	probing sync.Mutex   // held while found is filled
	found   *vmm.Support // what a probe found; it holds for the driver's life
}

var _ vmm.Driver = (*Driver)(nil)

const defaultBinary = "qemu-system-x86_64"

// Name is "qemu".
func (d *Driver) Name() string { return "qemu" }

// Probe looks for QEMU and for a usable KVM, once.
func (d *Driver) Probe(ctx context.Context) (vmm.Support, error) {
	d.probing.Lock()
	defer d.probing.Unlock()
	if d.found != nil {
		return *d.found, nil
	}
	s, err := d.look(ctx)
	if err != nil {
		return vmm.Support{}, fmt.Errorf("probing qemu: %w", err)
	}
	if s.Missing == "" {
		d.found = &s
	}
	return s, nil
}

func (d *Driver) look(ctx context.Context) (vmm.Support, error) {
	s, path, err := d.find(ctx)
	if err != nil || s.Missing != "" {
		return s, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return s, fmt.Errorf("running %s --version: %w", path, err)
	}
	if s.Version = parseVersion(string(out)); s.Version == "" {
		return s, fmt.Errorf("%s --version said %q, a version was expected", path, monitor.Printable(string(out)))
	}
	return s, nil
}

// find does what every start needs of a probe; it runs no QEMU.
func (d *Driver) find(ctx context.Context) (s vmm.Support, path string, err error) {
	s = vmm.Support{Driver: "qemu", Snapshots: true, Frames: true}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		s.Missing = "the qemu driver needs Linux on x86-64, this is " + runtime.GOOS + " on " + runtime.GOARCH
		return s, "", nil
	}
	name := d.Binary
	if name == "" {
		name = defaultBinary
	}
	if path, err = exec.LookPath(name); err != nil {
		s.Missing = name + " not found: apt install qemu-system-x86"
		return s, "", nil
	}
	return s, path, d.chooseAccel(ctx, &s)
}

// chooseAccel fills in what guest instructions are run by. Whoever names an
// accelerator has probed it, and it is not probed again.
func (d *Driver) chooseAccel(ctx context.Context, s *vmm.Support) error {
	if d.Accel == "kvm" {
		s.Accel = "kvm"
		return nil
	}
	why := "KVM was not asked for"
	if d.Accel == "" {
		k, err := vmm.ProbeKVM(ctx)
		if err != nil {
			return err
		}
		if k.Usable {
			s.Accel = "kvm"
			return nil
		}
		why = "KVM is not usable: " + k.Reason
	}
	s.Accel, s.Note = "tcg", "software emulation, 10 to 20 times slower: "+why
	var err error
	s.ClockKHz, err = d.clock()
	return err
}

var versionPattern = regexp.MustCompile(`version ([0-9]+(?:\.[0-9]+)+)`)

// parseVersion finds the version in the first line of --version.
func parseVersion(out string) string {
	if m := versionPattern.FindStringSubmatch(out); m != nil {
		return m[1]
	}
	return ""
}
