package cloudhypervisor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
	"golang.org/x/sys/unix"
)

// minLandlock is the version of Landlock that Cloud Hypervisor insists on.
const minLandlock = 3

// maxSocketPath is the longest path of a unix socket.
const maxSocketPath = 107

// Start starts Cloud Hypervisor and returns when its process runs; what it
// then finds wrong ends the machine with ReasonCrashed.
func (d *Driver) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	binary, missing := d.find()
	switch {
	case missing != "":
		return nil, fmt.Errorf("starting machine %q: %s", p.ID, missing)
	case p.Restore != nil:
		return nil, fmt.Errorf("restoring machine %q with cloud-hypervisor: %w", p.ID, vmm.ErrUnsupported)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, ctx.Err())
	}
	w := &wires{}
	m, err := d.start(binary, w, p)
	w.closeTheirs() // the child has its own
	if err != nil {
		w.closeOurs()
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, err)
	}
	return m, nil
}

func (d *Driver) start(binary string, w *wires, p vmm.Plan) (*machine, error) {
	w.theirs.landlock = landlockABI() >= minLandlock
	if err := w.lay(p); err != nil {
		return nil, err
	}
	argv, files := commandLine(p, w.theirs)
	c, err := monitor.Start(binary, argv, files, d.Place)
	if err != nil {
		return nil, err
	}
	return newMachine(c, w), nil
}

// wires are the connections between a machine's two processes.
type wires struct {
	theirs   wiring
	opened   []*os.File // by us, for the child
	made     []string   // paths to remove at the end
	doorbell *net.UnixListener
	// console and events are read; held keeps the console open for writing
	// until the child is gone, as it would end before the child opened it.
	console, held, events *os.File
	log                   *os.File
}

// lay makes everything that a plan needs.
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
	for _, d := range p.Disks {
		f, again, err := monitor.DiskFile(d.File, d.ReadOnly)
		if err != nil {
			return fmt.Errorf("disk %q: %w", d.Role, err)
		}
		if again {
			w.opened = append(w.opened, f)
		}
		d.File = f
		w.theirs.disks = append(w.theirs.disks, d)
	}
	w.theirs.nic = p.NIC
	if w.events, w.theirs.events, err = os.Pipe(); err != nil {
		return fmt.Errorf("making the pipe of events: %w", err)
	}
	w.opened = append(w.opened, w.theirs.events)
	if w.log, err = monitor.Dup(p.Console); err != nil {
		return fmt.Errorf("taking the console file: %w", err)
	}
	if err := w.layConsole(filepath.Join(p.Dir, "console.pipe")); err != nil {
		return fmt.Errorf("making the console's pipe: %w", err)
	}
	return w.layVsock(filepath.Join(p.Dir, "v.sock"))
}

func (w *wires) open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err == nil {
		w.opened = append(w.opened, f)
	}
	return f, err
}

// layConsole makes a named pipe: Landlock takes no other.
func (w *wires) layConsole(path string) error {
	if err := w.fresh(path); err != nil {
		return err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	var err error
	if w.console, err = os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
		return err
	}
	w.held, err = os.OpenFile(path, os.O_WRONLY, 0)
	w.theirs.console = path
	return err
}

// layVsock binds the doorbell before anybody could ring it.
func (w *wires) layVsock(path string) error {
	bell := path + "_" + strconv.Itoa(proto.PortDoorbell)
	if strings.ContainsAny(path, `,=[]"`) {
		return fmt.Errorf("directory of the machine: %q has a character that separates options", filepath.Dir(path))
	}
	if len(bell) > maxSocketPath {
		return fmt.Errorf("directory of the machine: path of %d bytes is too long by %d for a socket in it",
			len(filepath.Dir(path)), len(bell)-maxSocketPath)
	}
	for _, p := range []string{path, bell} {
		if err := w.fresh(p); err != nil {
			return err
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: bell, Net: "unix"})
	if err != nil {
		return fmt.Errorf("binding the doorbell: %w", err)
	}
	w.doorbell, w.theirs.vsock = l, path
	return nil
}

// fresh removes what a killed worker may have left at path, and sees to it
// that we leave nothing.
func (w *wires) fresh(path string) error {
	w.made = append(w.made, path)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func (w *wires) closeTheirs() {
	for _, f := range w.opened {
		f.Close()
	}
}

func (w *wires) closeOurs() {
	if w.doorbell != nil {
		w.doorbell.Close()
	}
	for _, f := range []*os.File{w.console, w.held, w.events, w.log} {
		if f != nil {
			f.Close()
		}
	}
	for _, path := range w.made {
		os.Remove(path)
	}
}
