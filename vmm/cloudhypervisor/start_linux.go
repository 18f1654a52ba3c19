package cloudhypervisor

import (
	"cmp"
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
// then finds wrong ends the machine with ReasonCrashed. With Plan.Restore it
// returns when the machine is loaded. ctx governs the start, not the machine.
func (d *Driver) Start(ctx context.Context, p vmm.Plan) (vmm.Machine, error) {
	binary, missing := d.find()
	switch {
	case missing != "":
		return nil, fmt.Errorf("starting machine %q: %s", p.ID, missing)
	case p.Frames:
		return nil, fmt.Errorf("a network device of frames for machine %q with cloud-hypervisor: %w", p.ID, vmm.ErrUnsupported)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, ctx.Err())
	}
	m, err := d.start(ctx, binary, p)
	if err != nil {
		return nil, fmt.Errorf("starting machine %q: %w", p.ID, err)
	}
	return m, nil
}

func (d *Driver) start(ctx context.Context, binary string, p vmm.Plan) (*machine, error) {
	w := &wires{}
	c, err := d.launch(ctx, binary, w, p)
	w.closeTheirs() // the child has its own
	if err != nil {
		w.closeOurs()
		return nil, err
	}
	m := newMachine(c, w)
	if err := m.begin(ctx, p.Restore != nil); err != nil {
		c.Kill()
		<-m.done
		return nil, err
	}
	return m, nil
}

func (d *Driver) launch(ctx context.Context, binary string, w *wires, p vmm.Plan) (*monitor.Process, error) {
	w.theirs.landlock = landlockABI() >= minLandlock
	if err := w.lay(ctx, p); err != nil {
		return nil, err
	}
	at, files := w.theirs.inherit()
	if p.Restore != nil {
		if err := w.laySaved(p, at); err != nil {
			return nil, err
		}
	}
	return monitor.Start(binary, commandLine(p, w.theirs, at), files, d.Place)
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
	// memory is the guest's, api the path of the socket to the monitor.
	memory *os.File
	api    string
	log    *os.File
	stale  []stream // what a restored guest is still connected to
}

// lay makes everything that a plan needs.
func (w *wires) lay(ctx context.Context, p vmm.Plan) error {
	if err := monitor.Check(p); err != nil {
		return err
	}
	if strings.ContainsAny(p.Dir, `,=[]"`) {
		return fmt.Errorf("directory of the machine: %q has a character that separates options", p.Dir)
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
	if err := w.layVsock(filepath.Join(p.Dir, "v.sock")); err != nil {
		return err
	}
	if err := w.layAPI(filepath.Join(p.Dir, "api.sock")); err != nil {
		return fmt.Errorf("making the socket to the monitor: %w", err)
	}
	if w.theirs.saved, err = w.folder(filepath.Join(p.Dir, "saved")); err != nil {
		return fmt.Errorf("making room for snapshots: %w", err)
	}
	return w.layMemory(ctx, p)
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

// layAPI binds the monitor's socket for it, so that it can be dialled from the
// first moment.
func (w *wires) layAPI(path string) error {
	if err := w.fresh(path); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if w.theirs.api, err = l.File(); err != nil {
		return err
	}
	w.opened = append(w.opened, w.theirs.api)
	w.api = path
	return nil
}

// layMemory makes the guest's memory, with the content of the snapshot's if
// there is one. It keeps its name: of a file without one Cloud Hypervisor would
// write a copy.
func (w *wires) layMemory(ctx context.Context, p vmm.Plan) error {
	size, path := int64(p.MemoryMiB)<<20, filepath.Join(cmp.Or(p.MemoryDir, p.Dir), "memory")
	err := w.fresh(path)
	if err == nil {
		w.memory, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err == nil {
		err = w.memory.Truncate(size)
	}
	if err != nil {
		return fmt.Errorf("making guest memory: %w", err)
	}
	w.theirs.memory = w.memory
	if p.Restore == nil {
		return nil
	}
	fi, err := p.Restore.Memory.Stat()
	switch {
	case err != nil:
		return fmt.Errorf("reading snapshot memory: %w", err)
	case fi.Size() != size:
		return fmt.Errorf("snapshot has %d bytes of memory, the plan %d", fi.Size(), size)
	}
	if err := monitor.CopySparse(ctx, w.memory, p.Restore.Memory); err != nil {
		return fmt.Errorf("copying snapshot memory: %w", err)
	}
	return nil
}

// laySaved puts a snapshot where the monitor reads it, with its own files in
// the place of those of the process that wrote it.
func (w *wires) laySaved(p vmm.Plan, at places) error {
	s, err := loadSaved(p.Restore.State)
	if err != nil {
		return err
	}
	if s.Config, err = rewire(s.Config, p, w.theirs, at); err != nil {
		return err
	}
	if w.stale, err = s.streams(); err != nil {
		return err
	}
	return s.lay(w.theirs.saved)
}

// fresh removes what a killed worker may have left at path, and sees to it
// that we leave nothing.
func (w *wires) fresh(path string) error {
	w.made = append(w.made, path)
	return os.RemoveAll(path)
}

// folder makes an empty directory.
func (w *wires) folder(path string) (string, error) {
	w.made = append(w.made, path)
	return path, freshDir(path)
}

// freshDir makes a directory empty.
func freshDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
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
	for _, f := range []*os.File{w.console, w.held, w.events, w.memory, w.log} {
		if f != nil {
			f.Close()
		}
	}
	for _, path := range w.made {
		os.RemoveAll(path)
	}
}
