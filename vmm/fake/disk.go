package fake

import (
	"fmt"
	"os"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// sysrq does what the kernel does on a write to /proc/sysrq-trigger.
func (m *Machine) sysrq(c byte) error {
	switch c {
	case 'b':
		m.end(vmm.ReasonPoweroff, "")
	case 'c':
		m.Panic("sysrq triggered crash")
	default:
		return fmt.Errorf("sysrq %q: not played", c)
	}
	return nil
}

// disk opens a disk of the plan.
func (m *Machine) disk(role string, write bool) (program.Disk, error) {
	f := m.disks[vmm.Role(role)]
	switch {
	case f == nil:
		return nil, fmt.Errorf("disk %q: no such device", role)
	case write && m.readOnly[vmm.Role(role)]:
		return nil, fmt.Errorf("disk %q: operation not permitted", role)
	}
	return fakeDisk{f}, nil
}

// fakeDisk is the plan's own file.
type fakeDisk struct{ *os.File }

func (d fakeDisk) Size() (int64, error) {
	fi, err := d.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}

// Close leaves the file to the machine.
func (d fakeDisk) Close() error { return nil }
