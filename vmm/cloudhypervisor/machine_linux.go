package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// machine is one Cloud Hypervisor process.
type machine struct {
	child   *monitor.Process
	wires   *wires
	console *monitor.Console
	verdict verdict
	control *control
	muxer   *muxer

	acting chan struct{} // holds a token while nobody acts on the machine
	paused bool          // guarded by the token

	ready, done chan struct{}
	exit        vmm.Exit // written before done is closed
}

var _ vmm.Machine = (*machine)(nil)

// newMachine takes over the child and our ends of the wires. Its goroutines
// end with the child.
func newMachine(c *monitor.Process, w *wires) *machine {
	m := &machine{
		child: c, wires: w, console: monitor.NewConsole(w.log), control: newControl(w.api),
		muxer:   newMuxer(w.theirs.vsock, w.stale),
		verdict: verdict{restored: make(chan struct{})}, acting: make(chan struct{}, 1),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	m.acting <- struct{}{}
	followed := make(chan struct{})
	go m.console.Copy(w.console)
	go func() {
		defer close(followed)
		m.verdict.follow(w.events, c.Kill)
	}()
	go m.supervise(followed)
	return m
}

// begin waits for a restored machine; one that boots rings.
func (m *machine) begin(ctx context.Context, restored bool) error {
	if !restored {
		go m.answerDoorbell()
		return nil
	}
	select {
	case <-m.verdict.restored:
		m.paused = true
		close(m.ready)
		return nil
	case <-m.done:
		return fmt.Errorf("loading the snapshot: %w", errors.New(m.Exit().Detail))
	case <-ctx.Done():
		return fmt.Errorf("loading the snapshot: %w", ctx.Err())
	}
}

// answerDoorbell waits for the first ring; the end of the machine closes the
// listener.
func (m *machine) answerDoorbell() {
	c, err := m.wires.doorbell.AcceptUnix()
	if err != nil {
		return
	}
	c.Close()
	close(m.ready)
}

// supervise waits for the end of the child and cleans up behind it.
func (m *machine) supervise(followed <-chan struct{}) {
	<-m.child.Done()
	m.wires.held.Close() // ends the console
	<-followed
	m.exit = m.verdict.exit(m.child.Death(), m.console, m.isReady())
	m.control.close()
	m.wires.closeOurs()
	close(m.done)
}

func (m *machine) isReady() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// Pid is Cloud Hypervisor's process.
func (m *machine) Pid() int { return m.child.Pid() }

// Ready is closed by the doorbell.
func (m *machine) Ready() <-chan struct{} { return m.ready }

// Done is closed when the process is gone and everything of the machine
// released.
func (m *machine) Done() <-chan struct{} { return m.done }

// Exit tells how the machine ended; it is empty before.
func (m *machine) Exit() vmm.Exit {
	select {
	case <-m.done:
		return m.exit
	default:
		return vmm.Exit{}
	}
}

// Connect dials a port of the guest.
func (m *machine) Connect(ctx context.Context, port uint32) (vmm.Conn, error) {
	if err := m.alive(); err != nil {
		return nil, fmt.Errorf("connecting to port %d: %w", port, err)
	}
	if !m.isReady() {
		return nil, fmt.Errorf("connecting to port %d: the guest is not ready", port)
	}
	c, err := m.muxer.dial(ctx, port)
	if err == nil {
		return c, nil
	}
	if ended := m.alive(); ended != nil {
		err = ended
	}
	return nil, fmt.Errorf("connecting to port %d: %w", port, err)
}

// Stop kills the process.
func (m *machine) Stop(ctx context.Context) error {
	if err := m.alive(); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	m.verdict.stop()
	m.child.Kill()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopping: %w", ctx.Err())
	}
}

func (m *machine) alive() error {
	select {
	case <-m.done:
		return vmm.ErrEnded
	default:
		return nil
	}
}
