package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// Bounds of a machine.
const (
	minMemoryMiB = 64
	maxVCPUs     = 8 // the guest kernel's NR_CPUS
)

// idPattern leaves a dash neither first nor last: unit names are built from
// ids.
var idPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// admit refuses what cannot become a machine, before anything is made, and
// tells what the driver can do now.
func (m *Manager) admit(ctx context.Context, s vmm.Spec) (vmm.Support, error) {
	if err := admitSpec(s); err != nil {
		return vmm.Support{}, err
	}
	if s.Network != "" && m.config.Taps == nil && m.config.Stacks == nil {
		return vmm.Support{}, api.Errorf(api.Unavailable, "machine %q cannot have a network: nobody makes taps here", s.ID)
	}
	support, err := m.Support(ctx)
	if err != nil {
		return vmm.Support{}, err
	}
	if s.Network != "" && m.config.Stacks != nil && !support.Frames {
		return vmm.Support{}, api.Errorf(api.Unavailable, "machine %q cannot have a network: %s needs taps for it: say AEGIS_VMM=qemu", s.ID, support.Driver)
	}
	if support.Missing != "" {
		return vmm.Support{}, api.Errorf(api.Unavailable, "machine %q cannot be started: %s", s.ID, support.Missing)
	}
	return support, nil
}

func admitSpec(s vmm.Spec) error {
	switch {
	case !idPattern.MatchString(s.ID):
		return api.Errorf(api.InvalidArgument, "machine id %q: 1 to 32 characters of a-z, 0-9 and, inside, - expected", s.ID)
	case s.MemoryMiB < minMemoryMiB:
		return api.Errorf(api.InvalidArgument, "machine %q with %d MiB of memory: at least %d expected", s.ID, s.MemoryMiB, minMemoryMiB)
	case s.VCPUs < 1 || s.VCPUs > maxVCPUs:
		return api.Errorf(api.InvalidArgument, "machine %q with %d processors: 1 to %d expected", s.ID, s.VCPUs, maxVCPUs)
	case s.ReadyTimeout < 0:
		return api.Errorf(api.InvalidArgument, "machine %q with a ready timeout of %s: a positive one expected", s.ID, s.ReadyTimeout)
	}
	if has := hostMemoryMiB(); has > 0 && s.MemoryMiB > has {
		return api.Errorf(api.LimitExceeded, "machine %q with %d MiB of memory: this host has %d", s.ID, s.MemoryMiB, has)
	}
	return admitDisks(s)
}

func admitDisks(s vmm.Spec) error {
	seen := make(map[vmm.Role]bool)
	for _, d := range s.Disks {
		switch {
		case !slices.Contains(vmm.Roles, d.Role):
			return api.Errorf(api.InvalidArgument, "machine %q with a disk %q: one of %v expected", s.ID, d.Role, vmm.Roles)
		case seen[d.Role]:
			return api.Errorf(api.InvalidArgument, "machine %q with two disks %q: one expected", s.ID, d.Role)
		case d.File == nil:
			return api.Errorf(api.InvalidArgument, "disk %q of machine %q comes without a file", d.Role, s.ID)
		}
		seen[d.Role] = true
	}
	for _, d := range s.Disks {
		if err := admitDiskFile(s.ID, d); err != nil {
			return err
		}
	}
	return nil
}

// admitDiskFile refuses what is no disk: machines' users are given their
// writable ones, and that must be nothing but a file, and one that the caller
// could write himself.
func admitDiskFile(id string, d vmm.Disk) error {
	fi, err := d.File.Stat()
	if err != nil {
		return api.Errorf(api.InvalidArgument, "disk %q of machine %q: %w", d.Role, id, err)
	}
	if !fi.Mode().IsRegular() {
		return api.Errorf(api.InvalidArgument, "disk %q of machine %q is not a regular file (%s): one expected", d.Role, id, fi.Mode().Type())
	}
	access, err := accessOf(d.File)
	switch {
	case err != nil:
		return api.Errorf(api.Internal, "disk %q of machine %q: %w", d.Role, id, err)
	case d.ReadOnly && access == unix.O_WRONLY:
		return api.Errorf(api.InvalidArgument, "read-only disk %q of machine %q is not open for reading", d.Role, id)
	case !d.ReadOnly && access != unix.O_RDWR:
		return api.Errorf(api.InvalidArgument, "writable disk %q of machine %q is not open for reading and writing", d.Role, id)
	}
	return nil
}

// accessOf tells what a descriptor allows: O_RDONLY, O_WRONLY or O_RDWR.
func accessOf(f *os.File) (access int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { access, failed = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	return access & unix.O_ACCMODE, errors.Join(err, failed)
}

// consoleWords quotes the end of the console of a machine that died young,
// unless the exit does already.
func (x *machine) consoleWords(e *vmm.Exit) string {
	if e != nil && (e.Reason == vmm.ReasonNeverReady || e.Reason == vmm.ReasonPanic) {
		return ""
	}
	if text := tail(filepath.Join(x.dir, consoleName)); text != "" {
		return "; its console ends with: " + text
	}
	return ""
}

// workerWords quotes the end of the worker's own log.
func (x *machine) workerWords() string {
	if text := tail(filepath.Join(x.dir, logName)); text != "" {
		return "; its log ends with: " + text
	}
	return ""
}

// tail is the last few lines of a file on one line, as far as they are
// printable.
func tail(path string) string {
	const window, lines = 2048, 3
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, window)
	n, _ := f.ReadAt(buf, max(0, fi.Size()-window))
	var last []string
	for l := range strings.Lines(string(buf[:n])) {
		if text := strings.Trim(fmt.Sprintf("%+q", strings.TrimSpace(l)), `"`); text != "" {
			last = append(last, text)
		}
	}
	return strings.Join(last[max(0, len(last)-lines):], " | ")
}
