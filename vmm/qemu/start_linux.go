package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
	"golang.org/x/sys/unix"
)

// Start starts QEMU and returns when its monitor answers; with Plan.Restore,
// when the machine runs again. ctx governs the start, not the machine.
func (d *Driver) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	s, binary, err := d.find(ctx)
	if err == nil && s.Missing != "" {
		err = errors.New(s.Missing)
	}
	if err != nil {
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, err)
	}
	acc := accelerator{kvm: s.Accel == "kvm", aio: diskAIO()}
	if !acc.kvm {
		acc.tscKHz = s.ClockKHz
	}
	var m *machine
	if err == nil {
		m, err = d.start(ctx, binary, acc, p)
	}
	if err != nil && acc.aio == aioURing && strings.Contains(err.Error(), aioURing) {
		acc.aio = aioThreads // the kernel has it, this build of QEMU does not
		m, err = d.start(ctx, binary, acc, p)
	}
	if err != nil {
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, err)
	}
	return m, nil
}

func (d *Driver) start(ctx context.Context, binary string, acc accelerator, p vmm.Plan) (*machine, error) {
	w := &wires{}
	err := w.lay(p)
	var c *monitor.Process
	if err == nil {
		a := commandLine(p, w.theirs, acc)
		c, err = monitor.Start(binary, a.argv, a.files, d.Place)
	}
	w.closeTheirs() // the child has its own; its end must be the only one
	if err != nil {
		w.closeOurs()
		return nil, err
	}
	m := newMachine(c, w)
	if err := m.begin(ctx, p); err != nil {
		m.child.Kill()
		<-m.done
		if errors.Is(err, errMonitorGone) && c.Death() != "" {
			err = errors.New(c.Death())
		}
		return nil, err
	}
	return m, nil
}

// wires are the connections between a machine's two processes.
type wires struct {
	theirs               wiring
	opened               []*os.File // by us, for the child
	qmp, serial, console *net.UnixConn
	memory, log          *os.File // ours
}

// lay opens everything that a plan needs.
func (w *wires) lay(p vmm.Plan) error {
	if err := monitor.Check(p); err != nil {
		return err
	}
	var err error
	if w.theirs.kernel, err = w.open(p.Kernel); err != nil {
		return fmt.Errorf("opening the guest kernel: %w", err)
	}
	if w.theirs.initramfs, err = w.open(p.Initramfs); err != nil {
		return fmt.Errorf("opening the initramfs: %w", err)
	}
	for _, s := range []struct {
		ours   **net.UnixConn
		theirs **os.File
	}{{&w.qmp, &w.theirs.qmp}, {&w.serial, &w.theirs.serial}, {&w.console, &w.theirs.console}} {
		if *s.ours, *s.theirs, err = socketpair(); err != nil {
			return err
		}
		w.opened = append(w.opened, *s.theirs)
	}
	for _, disk := range p.Disks {
		if disk.File, err = w.disk(disk); err != nil {
			return err
		}
		w.theirs.disks = append(w.theirs.disks, disk)
	}
	w.theirs.nic, w.theirs.frames = p.NIC, p.Frames
	if w.log, err = monitor.Dup(p.Console); err != nil {
		return fmt.Errorf("taking the console file: %w", err)
	}
	return w.layMemory(p)
}

// open opens a file of ours for the child.
func (w *wires) open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err == nil {
		w.opened = append(w.opened, f)
	}
	return f, err
}

// disk makes sure that the descriptor allows what the disk does and no more.
func (w *wires) disk(d vmm.Disk) (*os.File, error) {
	f, again, err := monitor.DiskFile(d.File, d.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("disk %q: %w", d.Role, err)
	}
	if again {
		w.opened = append(w.opened, f)
	}
	return f, nil
}

// layMemory makes the guest's memory: fresh, a copy of a snapshot's, or a
// template's, which stays as it is.
func (w *wires) layMemory(p vmm.Plan) error {
	size := int64(p.MemoryMiB) << 20
	var err error
	switch {
	case p.Restore == nil:
		w.memory, err = newMemory(size)
	case length(p.Restore.Memory) == 0:
		return nil // a clone's snapshot: what is in the state goes to no file
	case length(p.Restore.Memory) != size:
		return fmt.Errorf("snapshot has %d bytes of memory, the plan %d", length(p.Restore.Memory), size)
	case isTemplate(p.Restore.Memory):
		w.theirs.memory = p.Restore.Memory
		return nil
	default:
		w.memory, err = copyMemory(p.Restore.Memory, size)
	}
	w.theirs.memory, w.theirs.shared = w.memory, true
	return err
}

func length(f *os.File) int64 {
	if f == nil {
		return 0
	}
	fi, err := f.Stat()
	if err != nil {
		return -1
	}
	return fi.Size()
}

func (w *wires) closeTheirs() {
	for _, f := range w.opened {
		f.Close()
	}
}

func (w *wires) closeOurs() {
	for _, c := range []*net.UnixConn{w.qmp, w.serial, w.console} {
		if c != nil {
			c.Close()
		}
	}
	for _, f := range []*os.File{w.memory, w.log} {
		if f != nil {
			f.Close()
		}
	}
}

// socketpair makes a connection between us and a child.
func socketpair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "monitor's end")
	mine := os.NewFile(uintptr(fds[0]), "our end")
	defer mine.Close()
	c, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making a socket pair: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}
