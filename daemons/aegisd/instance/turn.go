package instance

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// turn is a pause or a resume under way; there is one at a time.
type turn struct {
	to   api.Phase     // "" only looks
	why  string        // who wants it
	idle bool          // nobody does, and nobody uses the instance
	at   time.Time     // when it began
	stop func()        // gives up putting its memory on disk; nil for other turns
	over bool          // it was given up, as somebody needs the instance
	cold bool          // it was started instead of being woken
	done chan struct{} // closed when it has ended, err is set before
	err  error
}

// Pause implements api.Aegis.
func (s *Service) Pause(ctx context.Context, ref string) (api.Instance, error) {
	return s.turn(ctx, ref, api.PhasePaused, "a user paused it")
}

// Resume implements api.Aegis.
func (s *Service) Resume(ctx context.Context, ref string) (api.Instance, error) {
	return s.turn(ctx, ref, api.PhaseRunning, "a user resumed it")
}

func (s *Service) turn(ctx context.Context, ref string, to api.Phase, why string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.turnTo(ctx, to, why)
	return *o.view.Load(), atBoundary(err)
}

// turnTo returns when the instance is paused or running. It goes on when the
// caller does not wait.
func (o *owner) turnTo(ctx context.Context, to api.Phase, why string) error {
	for {
		var t *turn
		err := o.ask(ctx, func() (err error) { t, err = o.onTurn(to, why); return err })
		if err != nil || t == nil {
			return err
		}
		if err := o.await(ctx, t.done); err != nil {
			return err
		}
		if t.to != to {
			continue
		}
		if t.cold && t.err == nil {
			_, t.err = o.svc.Wait(ctx, o.id, api.UntilRunning)
		}
		return t.err
	}
}

// onTurn joins the turn that is under way, begins one, or returns nil where
// nothing is to be done.
func (o *owner) onTurn(to api.Phase, why string) (*turn, error) {
	b, phase := o.boot, o.rec.Status.Phase
	if b != nil && b.outcome != nil {
		phase = api.PhaseStopping // the record may still say why
	}
	switch {
	case o.removing:
		return nil, api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case b == nil && phase == api.PhaseHibernated && to == api.PhaseRunning:
		return o.thaw(why)
	case b == nil && phase == api.PhaseHibernated:
		return nil, nil
	case b != nil && b.turn != nil && b.outcome == nil:
		if b.turn.stop != nil && to == api.PhaseRunning {
			b.turn.over = true
			b.turn.stop()
		}
		return b.turn, nil
	case b == nil || phase != api.PhaseRunning && phase != api.PhasePaused:
		verb := map[api.Phase]string{api.PhasePaused: "paused", api.PhaseRunning: "resumed", api.PhaseHibernated: "hibernated"}[to]
		return nil, api.Errorf(api.BadState, "instance %s is %s: only one that runs can be %s", o.id, phase, verb)
	case phase == to && !b.unsure:
		return nil, nil
	case to == api.PhaseHibernated:
		return o.freeze(b, why)
	}
	t := o.newTurn(b, to, why)
	if to == api.PhasePaused {
		b.sleep()
	}
	session, unaware := b.session, o.rec.Status.Sleep.Unaware
	o.svc.tasks.Go(func() {
		state, err := o.turnMachine(b.machine, to)
		if state == vmm.StateRunning && to == api.PhaseRunning {
			// Before the record says that it runs: an aegisd that is killed
			// here does it again.
			o.tellAwake(b, session, unaware)
		}
		o.post(func() { o.onTurned(b, t, state, err) })
	})
	return t, nil
}

func (o *owner) newTurn(b *boot, to api.Phase, why string) *turn {
	b.turn = &turn{to: to, why: why, at: o.svc.now(), done: make(chan struct{})}
	b.heard = ""
	return b.turn
}

// turnMachine pauses or resumes a machine. What became of it after a call that
// failed only the manager knows.
func (o *owner) turnMachine(machine string, to api.Phase) (vmm.State, error) {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	call, state := o.svc.Machines.Resume, vmm.StateRunning
	if to == api.PhasePaused {
		call, state = o.svc.Machines.Pause, vmm.StatePaused
	}
	if err := call(ctx, machine); err != nil {
		ctx, cancel := o.svc.bounded()
		defer cancel()
		info, _ := o.svc.Machines.Get(ctx, machine)
		return info.State, err
	}
	return state, nil
}

func (o *owner) onTurned(b *boot, t *turn, state vmm.State, err error) {
	b.turn, t.err = nil, err
	b.unsure = err != nil && state != vmm.StateRunning && state != vmm.StatePaused
	defer close(t.done)
	if o.boot != b || b.outcome != nil {
		return
	}
	if t.idle && err != nil {
		o.notSlept(err)
	}
	o.found(state, t)
	if o.rec.Status.Phase == api.PhaseRunning {
		b.awaken()
	} else {
		b.sleep()
	}
	if b.heard != "" {
		o.onMachineTurned(b, b.heard)
	}
}

// found makes the phase of an instance that runs what its machine's state is;
// t is the turn that led there, nil if none of ours did.
func (o *owner) found(state vmm.State, t *turn) {
	before := o.rec.Status.Phase
	switch state {
	case vmm.StateRunning:
		o.rec.Status.Phase = api.PhaseRunning
	case vmm.StatePaused:
		o.rec.Status.Phase = api.PhasePaused
	}
	if o.rec.Status.Phase != before {
		o.noteTurn(t)
		o.commit("")
		o.tellLeases()
		o.tellTurn(t)
	}
}

// sleep says that from now on the guest owes no answer.
func (b *boot) sleep() {
	select {
	case <-b.awake:
		b.awake = make(chan struct{})
	default:
	}
}

// awaken lets those go on who wait for an answer of the guest.
func (b *boot) awaken() {
	select {
	case <-b.awake:
	default:
		close(b.awake)
	}
}

// awaken resumes an instance whose guest is about to be asked something. One
// at rest is left for the caller to refuse.
func (o *owner) awaken(ctx context.Context, why string) error {
	asleep := false
	err := o.ask(ctx, func() error {
		b := o.boot
		phase := o.rec.Status.Phase
		asleep = b != nil && b.outcome == nil && (b.turn != nil || phase == api.PhasePaused) || b == nil && phase == api.PhaseHibernated
		if b != nil {
			o.touch()
		}
		return nil
	})
	if err != nil || !asleep {
		return err
	}
	return o.turnTo(ctx, api.PhaseRunning, why)
}

// awaitAwake waits until the guest of a boot can answer.
func (o *owner) awaitAwake(b *boot) error {
	var awake chan struct{}
	if err := o.ask(b.ctx, func() error { awake = b.awake; return nil }); err != nil {
		return err
	}
	select {
	case <-awake:
		return nil
	case <-b.ctx.Done():
		return context.Cause(b.ctx)
	}
}

// waker gives a function that lets a paused guest run, so that it can leave in
// order; false means that it does not.
func (o *owner) waker(b *boot) func() bool {
	t := b.turn
	if t == nil && o.rec.Status.Phase != api.PhasePaused {
		return func() bool { return true }
	}
	session := b.session
	return func() bool {
		if t != nil {
			select {
			case <-t.done:
			case <-b.ctx.Done():
				return false
			}
		}
		_, err := o.turnMachine(b.machine, api.PhaseRunning)
		if err != nil {
			o.svc.Log.Warn("resuming for a stop", "instance", o.id, "machine", b.machine, "error", err)
			return false
		}
		o.setTimeUnlessHurried(b, session)
		return true
	}
}
