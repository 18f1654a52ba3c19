package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// machine is one QEMU process.
type machine struct {
	child   *monitor.Process
	qmp     *qmp
	console *monitor.Console
	verdict verdict
	link    *guestLink
	// memory holds the guest's memory, nil where only QEMU has it.
	memory *os.File
	wires  *wires
	// migration has the statuses of migrations, to be read by whoever
	// started one; it is buffered for all that one can have.
	migration chan string

	acting chan struct{} // holds a token while nobody acts on the machine
	// paused is what QEMU said last: who gave up waiting for an answer does
	// not know what became of the command.
	paused atomic.Bool

	ready, done chan struct{}
	exit        vmm.Exit // written before done is closed
}

var _ vmm.Machine = (*machine)(nil)

// newMachine takes over the child and our ends of the wires. Its goroutines
// end with the child.
func newMachine(c *monitor.Process, w *wires) *machine {
	m := &machine{
		child: c, wires: w, memory: w.memory, console: monitor.NewConsole(w.log),
		migration: make(chan string, 32), acting: make(chan struct{}, 1),
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	m.acting <- struct{}{}
	m.link = newGuestLink(w.serial, m.cut)
	m.qmp = newQMP(w.qmp, m.event)
	go m.console.Copy(w.console)
	go m.supervise()
	return m
}

// supervise waits for the end of QEMU and cleans up behind it.
func (m *machine) supervise() {
	<-m.child.Done()
	<-m.qmp.gone // all events are in
	m.exit = m.verdict.exit(m.child.Death(), m.console, m.isReady())
	m.link.close()
	m.wires.closeOurs()
	close(m.done)
}

// cut ends a machine whose guest broke the link: nobody can reach it again.
func (m *machine) cut(why error) {
	m.verdict.cut(why)
	m.child.Kill()
}

// begin takes a new QEMU to the point where its guest runs.
func (m *machine) begin(ctx context.Context, p vmm.Plan) error {
	if err := m.qmp.handshake(ctx); err != nil {
		return err
	}
	if p.Restore != nil {
		if err := m.load(ctx, p.Restore.State); err != nil {
			return err
		}
		close(m.ready)
		return nil
	}
	go func() { // ends with the machine, whose end closes the link
		if m.link.awaitDoorbell() == nil {
			close(m.ready)
		}
	}()
	return nil
}

// event is called by the monitor's reader.
func (m *machine) event(name string, data json.RawMessage) {
	m.verdict.event(name, data)
	switch name {
	case "STOP":
		m.paused.Store(true)
	case "RESUME":
		m.paused.Store(false)
	}
	var d struct {
		Status string `json:"status"`
	}
	if name != "MIGRATION" || json.Unmarshal(data, &d) != nil {
		return
	}
	select {
	case m.migration <- d.Status:
	default: // nobody started so many
	}
}

func (m *machine) isReady() bool {
	select {
	case <-m.ready:
		return true
	default:
		return false
	}
}

// Pid is QEMU's process.
func (m *machine) Pid() int { return m.child.Pid() }

// Ready is closed by the doorbell, or at once after a restore.
func (m *machine) Ready() <-chan struct{} { return m.ready }

// Done is closed when QEMU is gone and everything of the machine released.
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

// Connect dials a port of the guest. While the machine is paused it waits.
func (m *machine) Connect(ctx context.Context, port uint32) (vmm.Conn, error) {
	if !m.isReady() && m.Exit().Reason == "" {
		return nil, fmt.Errorf("connecting to port %d: the guest is not ready", port)
	}
	c, err := m.link.dial(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("connecting to port %d: %w", port, m.orEnded(ctx, err))
	}
	return c, nil
}

// Pause stops the virtual processors.
func (m *machine) Pause(ctx context.Context) error { return m.turn(ctx, "stop") }

// Resume lets them go on.
func (m *machine) Resume(ctx context.Context) error { return m.turn(ctx, "cont") }

// turn runs a command that does nothing where it leads to. It is always sent:
// one that was given up may still be on its way, and is overtaken by none.
func (m *machine) turn(ctx context.Context, command string) error {
	return m.act(ctx, func() error {
		for {
			err := m.qmp.call(ctx, command, nil)
			var refused *qmpError
			if !errors.As(err, &refused) || refused.Desc != notFinalized {
				return err
			}
		}
	})
}

// notFinalized is what QEMU says in the moment between the last event of a
// migration and its thread's last step, which it takes between two commands.
const notFinalized = "Migration is not finalized yet"

// act runs f while nobody else acts on the machine.
func (m *machine) act(ctx context.Context, f func() error) error {
	select {
	case <-m.done:
		return vmm.ErrEnded
	default:
	}
	select {
	case <-m.acting:
		defer func() { m.acting <- struct{}{} }()
	case <-m.done:
		return vmm.ErrEnded
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.orEnded(ctx, f())
}

// orEnded turns what a dying QEMU does to a call into ErrEnded.
func (m *machine) orEnded(ctx context.Context, err error) error {
	if !errors.Is(err, errMonitorGone) && !errors.Is(err, errLinkGone) {
		return err
	}
	select {
	case <-m.done:
		return vmm.ErrEnded
	case <-ctx.Done():
		return err
	}
}

// Stop kills QEMU.
func (m *machine) Stop(ctx context.Context) error {
	select {
	case <-m.done:
		return vmm.ErrEnded
	default:
	}
	m.verdict.stop()
	m.child.Kill()
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
