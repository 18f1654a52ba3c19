package fake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// Machine is one fake machine. Beside vmm.Machine it has the hand of fate:
// Panic and Crash.
type Machine struct {
	behaviour Behaviour
	guest     *guest
	gate      gate
	console   *os.File
	disks     map[vmm.Role]*os.File
	readOnly  map[vmm.Role]bool

	driver *Driver
	mu     sync.Mutex // guards token
	token  string     // of the snapshot that the guest is in as it is now

	ready, done chan struct{}
	endOnce     sync.Once
	exit        vmm.Exit // written before done is closed
}

var _ vmm.Machine = (*Machine)(nil)

func (d *Driver) newMachine(p vmm.Plan, programs map[string]program.Program) (*Machine, error) {
	m := &Machine{
		driver: d, behaviour: d.behaviour, disks: map[vmm.Role]*os.File{}, readOnly: map[vmm.Role]bool{},
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	m.gate.open = closedChan()
	for _, d := range p.Disks {
		f, err := dup(d.File)
		if err != nil {
			m.closeFiles()
			return nil, fmt.Errorf("taking disk %q of fake machine %q: %w", d.Role, p.ID, err)
		}
		m.disks[d.Role], m.readOnly[d.Role] = f, d.ReadOnly
	}
	if p.Console != nil {
		f, err := dup(p.Console)
		if err != nil {
			m.closeFiles()
			return nil, fmt.Errorf("taking console of fake machine %q: %w", p.ID, err)
		}
		m.console = f
	}
	if p.Restore != nil {
		if err := m.thaw(p.Restore); err != nil {
			m.closeFiles()
			return nil, fmt.Errorf("restoring fake machine %q: %w", p.ID, err)
		}
		return m, nil
	}
	files, err := newFiles(p.Dir)
	if err != nil {
		m.closeFiles()
		return nil, fmt.Errorf("making the files of fake machine %q: %w", p.ID, err)
	}
	m.guest = newGuest(m, files, programs)
	return m, nil
}

// boot plays the boot in its own goroutine, which ends with the machine.
func (m *Machine) boot() {
	b := m.behaviour
	switch {
	case b.DieAtBoot != "":
		m.Crash(b.DieAtBoot)
	case b.PanicAtBoot != "":
		m.Panic(b.PanicAtBoot)
	case b.NeverReady:
	case b.Boot == nil:
		close(m.ready)
	default:
		go func() {
			select {
			case <-b.Boot:
				close(m.ready)
			case <-m.done:
			}
		}()
	}
}

// Panic ends the machine as a kernel panic does, with these words.
func (m *Machine) Panic(words string) {
	text := "Kernel panic - not syncing: " + words
	if m.console != nil {
		fmt.Fprintln(m.console, text)
	}
	m.end(vmm.ReasonPanic, text)
}

// Crash ends the machine as the death of its monitor does.
func (m *Machine) Crash(detail string) { m.end(vmm.ReasonCrashed, detail) }

func (m *Machine) end(r vmm.Reason, detail string) {
	m.endOnce.Do(func() {
		if m.isSaved() {
			m.guest.freeze()
		} else {
			m.guest.close()
		}
		m.closeFiles()
		m.exit = vmm.Exit{Reason: r, Detail: detail, Time: time.Now()}
		close(m.done)
	})
}

func (m *Machine) closeFiles() {
	for _, f := range m.disks {
		f.Close()
	}
	if m.console != nil {
		m.console.Close()
	}
}

// Pid is 0: there is no process.
func (m *Machine) Pid() int { return 0 }

// Ready is closed as the behaviour says.
func (m *Machine) Ready() <-chan struct{} { return m.ready }

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Exit tells how the machine ended.
func (m *Machine) Exit() vmm.Exit {
	select {
	case <-m.done:
		return m.exit
	default:
		return vmm.Exit{}
	}
}

// Connect dials a port of the guest; while the machine is paused it waits.
func (m *Machine) Connect(ctx context.Context, port uint32) (vmm.Conn, error) {
	select {
	case <-m.ready:
	default:
		return nil, fmt.Errorf("connecting to port %d: the guest is not ready", port)
	}
	if err := m.gate.wait(ctx, m.done); err != nil {
		return nil, fmt.Errorf("connecting to port %d: %w", port, err)
	}
	if port != proto.PortControl && port != proto.PortStream && port != proto.PortForward {
		return nil, fmt.Errorf("connecting to port %d: nobody listens there", port)
	}
	host, peer, err := socketpair()
	if err != nil {
		return nil, fmt.Errorf("connecting to port %d: %w", port, err)
	}
	if !m.guest.accept(port, gated{Conn: peer, m: m}) {
		host.Close()
		return nil, fmt.Errorf("connecting to port %d: %w", port, vmm.ErrEnded)
	}
	return host, nil
}

// Pause holds everything that the guest reads and writes.
func (m *Machine) Pause(context.Context) error {
	if err := m.alive(); err != nil {
		return fmt.Errorf("pausing: %w", err)
	}
	if m.behaviour.RefusePause != nil {
		return fmt.Errorf("pausing: %w", m.behaviour.RefusePause)
	}
	m.gate.shut()
	return nil
}

// Resume lets it go on.
func (m *Machine) Resume(context.Context) error {
	if err := m.alive(); err != nil {
		return fmt.Errorf("resuming: %w", err)
	}
	m.goOn()
	m.gate.release()
	return nil
}

// Stop pulls the plug.
func (m *Machine) Stop(context.Context) error {
	if err := m.alive(); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	m.end(vmm.ReasonStopped, "")
	return nil
}

func (m *Machine) alive() error {
	select {
	case <-m.done:
		return vmm.ErrEnded
	default:
		return nil
	}
}

// gated is the guest's end of a connection: nothing passes while the machine
// is paused. It is a plain net.Conn, so that no copy by the kernel goes past
// the gate.
type gated struct {
	net.Conn
	m *Machine
}

// Read waits for the machine to run, before and after, as the guest sees no
// byte while it does not.
func (g gated) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if err := g.m.gate.wait(context.Background(), g.m.done); err != nil {
		return 0, io.EOF // as when the machine's end is gone
	}
	if errors.Is(err, net.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write waits for the machine to run.
func (g gated) Write(p []byte) (int, error) {
	if err := g.m.gate.wait(context.Background(), g.m.done); err != nil {
		return 0, net.ErrClosed
	}
	return g.Conn.Write(p)
}

// CloseWrite ends what the host reads.
func (g gated) CloseWrite() error { return g.Conn.(vmm.Conn).CloseWrite() }
