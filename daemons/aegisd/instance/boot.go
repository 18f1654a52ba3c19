package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/vmm"
)

// boot is one start of an instance, from the first step until nothing of it
// is left. Its fields belong to the owner's goroutine but where they are set
// once, before the goroutines that read them start.
type boot struct {
	generation uint64
	machine    string
	origin     string          // the machine that its guest booted in
	ctx        context.Context // ends when the boot is being released
	cancel     context.CancelCauseFunc
	begun      chan struct{} // closed when starting has succeeded or failed
	powerless  chan struct{} // closed when the machine is known to have ended
	hurry      chan struct{} // closed when an orderly end must not wait
	released   chan struct{} // closed when nothing is left
	left       error         // why something is, set before
	followed   chan struct{} // closed when its program is not followed any more; nil before it runs
	awake      chan struct{} // closed while the guest can answer; the owner's, see turn

	up       bool // the machine runs
	end      *vmm.Exit
	session  *guestsession.Session
	streams  *api.Streams  // until a client fetches them
	exited   bool          // the primary process has ended
	config   *image.Config // of its image; nil where aegisd was restarted since
	timer    *time.Timer   // the spec's timeout
	outcome  *outcome      // set while being released
	output   *output       // nil before the program runs
	logged   outputs       // of execs; any goroutine's
	hurrying bool
	turn     *turn // a pause or resume under way
	unsure   bool  // nobody could tell how the last one ended
	// heirs are the programs that go with clients of an earlier aegisd, which
	// have no session of ours; one more as long as nobody knows how many.
	heirs  int
	frozen bool // it is in a snapshot, and its machine must not go on
	// heard is the state of the machine that the manager told last while the
	// turn was under way.
	heard vmm.State

	serving sync.WaitGroup // the server of its workspace
	lease   *netd.Lease    // of the machine's network; set before it starts
}

// newMachine names a machine that never was.
func newMachine() string {
	id := make([]byte, 8)
	rand.Read(id)
	return "m-" + hex.EncodeToString(id)
}

func (o *owner) newBoot() *boot { return o.newBootIn(o.rec.Status.Machine) }

// newBootIn is a boot in a machine that the record does not name yet.
func (o *owner) newBootIn(machine string) *boot {
	b := &boot{
		generation: o.rec.Status.Generation, machine: machine, origin: firstOf(o.rec.Status.Sleep.Origin, machine),
		begun: make(chan struct{}), powerless: make(chan struct{}),
		hurry: make(chan struct{}), released: make(chan struct{}), awake: make(chan struct{}),
	}
	if p := o.rec.Status.Phase; p != api.PhasePaused && p != api.PhaseHibernated {
		close(b.awake)
	}
	b.ctx, b.cancel = context.WithCancelCause(o.svc.ctx)
	o.svc.route(b.machine, o)
	return b
}

// letGo closes our ends of everything; the machine is not touched.
func (b *boot) letGo() {
	b.cancel(nil)
	b.output.stop()
	b.logged.each((*output).stop)
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.session != nil {
		b.session.Close()
	}
	if b.streams != nil {
		b.streams.Close()
		b.streams = nil
	}
}

// nextStart is the status of an instance that is about to start: committed
// before anything is started, so that a crash finds the machine.
func (s *Service) nextStart(st store.Status) store.Status {
	st.Revival.Halted, st.Revival.Due = false, nil
	now := s.now()
	return store.Status{
		Phase: api.PhaseStarting, Enabled: true, Generation: st.Generation + 1,
		Machine: newMachine(), HostBoot: s.HostBoot, Digest: st.Digest,
		Revival: st.Revival, Updated: &now, Active: &now,
	}
}

// begin starts what the record says.
func (o *owner) begin() {
	o.startErr = nil
	o.stopWaitingForClient()
	o.client = clientNone
	if o.spec.Attach {
		o.client = clientAwaited
	}
	b := o.newBoot()
	o.boot = b
	o.noteStart(b)
	o.svc.tasks.Go(func() {
		defer close(b.begun)
		up, err := o.bringUp(b)
		if !o.post(func() { o.onBegun(b, up, err) }) {
			up.close()
		}
	})
}

// onBegun takes over what starting brought about.
func (o *owner) onBegun(b *boot, up started, err error) {
	if o.boot != b || b.outcome != nil {
		up.close() // it is being released already
		return
	}
	if up.digest != "" {
		o.rec.Status.Digest = up.digest
	}
	if err != nil {
		o.release(outcome{phase: api.PhaseFailed, err: err})
		return
	}
	b.session, b.streams, b.config = up.session, up.streams, up.config
	now := o.svc.now()
	o.rec.Status.Phase, o.rec.Status.Started = api.PhaseRunning, &now
	o.rec.Status.Attached = o.waiter != nil
	o.commit("")
	o.awaitClient()
	o.note(api.LogStderr, "[aegis] started")
	o.running(b)
	o.serveWaiter()
}

// running follows the process of a boot that runs, new or found again.
func (o *owner) running(b *boot) {
	o.setTimeout(b)
	o.collect(b)
	first, followed := b.session, make(chan struct{})
	b.followed = followed
	o.svc.tasks.Go(func() {
		defer close(followed)
		o.follow(b, first)
	})
}

// onExited notes how the primary process ended.
func (o *owner) onExited(b *boot, code, signal int, message string) {
	if b.exited {
		return
	}
	b.exited = true
	if b.timer != nil {
		b.timer.Stop()
	}
	st := &o.rec.Status
	if st.ExitCode == nil { // else it ran out of time
		st.ExitCode, st.ExitSignal = &code, signal
		st.LastError = message
	}
	o.noteExit(code, signal, message)
	o.commit("")
	o.emit(api.EventExited, exitText(code, signal, message))
	o.reconsider()
}

func exitText(code, signal int, message string) string {
	switch {
	case message != "":
		return message
	case signal != 0:
		return fmt.Sprintf("killed by signal %d", signal)
	default:
		return fmt.Sprintf("exited with code %d", code)
	}
}

// onMachineEnd is told once per machine, by the manager.
func (o *owner) onMachineEnd(b *boot, exit vmm.Exit) {
	if b.end != nil || b.frozen {
		return
	}
	b.end = &exit
	close(b.powerless)
	if !b.up || b.outcome != nil {
		return // starting tells it better, or it is what we wanted
	}
	if b.followed == nil || b.exited || exit.Reason != vmm.ReasonPoweroff && exit.Reason != vmm.ReasonShutdown {
		o.onEndKnown(b)
		return
	}
	followed := b.followed
	o.svc.tasks.Go(func() { // how its program ended is still on its way
		awaitFollowed(b.ctx, followed)
		o.postBoot(b, func() { o.onEndKnown(b) })
	})
}

// awaitFollowed waits until all is known of a program whose machine has left
// in order, or will not be known.
func awaitFollowed(ctx context.Context, followed <-chan struct{}) {
	t := time.NewTimer(lastWords)
	defer t.Stop()
	select {
	case <-followed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// onEndKnown releases a boot whose machine has ended by itself.
func (o *owner) onEndKnown(b *boot) {
	switch {
	case b.outcome != nil: // the end of its program was enough
	case inOrder(*b.end, b.exited):
		o.release(outcome{phase: api.PhaseStopped})
	default:
		o.release(outcome{phase: api.PhaseFailed, err: endError(*b.end)})
	}
}

// inOrder tells whether the end of a machine is none of its instance's
// failures: the host asked for it, or its program had ended.
func inOrder(exit vmm.Exit, exited bool) bool {
	return exit.Reason == vmm.ReasonShutdown || exit.Reason == vmm.ReasonPoweroff && exited
}

// endError says why a machine ended that should not have.
func endError(exit vmm.Exit) error {
	text := map[vmm.Reason]string{
		vmm.ReasonPoweroff:   "the guest powered itself off",
		vmm.ReasonShutdown:   "the host ended the machine",
		vmm.ReasonStopped:    "the machine was stopped from outside",
		vmm.ReasonPanic:      "the guest's kernel panicked",
		vmm.ReasonCrashed:    "the machine monitor died",
		vmm.ReasonNeverReady: "the guest never became ready",
		vmm.ReasonWorkerLost: "the machine's worker died",
	}[exit.Reason]
	if text == "" {
		text = "the machine ended: " + string(exit.Reason)
	}
	if exit.Detail != "" {
		text += ": " + oneLine(exit.Detail)
	}
	return api.Errorf(api.Unavailable, "%s", text)
}

var errReleased = errors.New("instance is being stopped")
