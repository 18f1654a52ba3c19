package instance

import (
	"context"
	"fmt"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/vmm"
)

// To wake from disk, in this order: a new machine is restored and stands still;
// the record says paused and names it; it goes on. Before the record says so
// the snapshot is the instance: the new machine has changed nothing and may be
// thrown away. From then on that machine is, and the snapshot, which the disk
// does not fit any more as soon as the guest runs, is removed.

// thaw begins to wake an instance that is on disk.
func (o *owner) thaw(why string) (*turn, error) {
	o.svc.admission.Lock()
	memory, _ := o.svc.carried(o.id)
	err := o.svc.admitMemory(memory, o.spec)
	o.thawing.Store(err == nil)
	o.svc.admission.Unlock()
	if err != nil {
		return nil, fmt.Errorf("waking instance %s: %w", o.id, err)
	}
	b := o.newBootIn(newMachine())
	t := o.newTurn(b, api.PhaseRunning, why)
	o.boot = b
	st := o.rec.Status
	o.svc.tasks.Go(func() {
		// One that an earlier step has left holds the disk.
		monitor, err := "", o.endMachine(st.Machine)
		if err == nil {
			monitor, err = o.restoreMachine(b, st.Sleep.Snapshot, st.Digest)
		}
		close(b.begun)
		if !o.post(func() { o.onRestored(b, t, monitor, err) }) {
			close(t.done)
		}
	})
	return t, nil
}

// restoreMachine starts the new machine; monitor is what the host has now.
func (o *owner) restoreMachine(b *boot, snapshot, digest string) (monitor string, err error) {
	select { // many at once would all be slow
	case o.svc.thaws <- struct{}{}:
		defer func() { <-o.svc.thaws }()
	case <-b.ctx.Done():
		return "", context.Cause(b.ctx)
	}
	support, err := o.svc.Machines.Support(b.ctx)
	if err != nil {
		return "", err
	}
	monitor = monitorOf(vmm.Saved{Driver: support.Driver, Version: support.Version, Accel: support.Accel})
	if err := o.reattach(b); err != nil {
		return monitor, err
	}
	return monitor, o.startOn(b, digest, snapshot)
}

// reattach finds the network that the guest has, or makes one where the host
// has lost it.
func (o *owner) reattach(b *boot) error {
	if o.svc.networkOf(o.spec.NetworkSpec) == api.NetworkNone || o.svc.Config.Network == nil {
		return nil
	}
	state, err := o.svc.Config.Network.Get(b.ctx, b.origin)
	switch {
	case err == nil:
		b.lease = &state.Lease
		return nil
	case api.CodeOf(err) != api.NotFound:
		return fmt.Errorf("finding the network: %w", err)
	}
	return o.attach(b)
}

// onRestored makes the new machine the instance and lets it go on.
func (o *owner) onRestored(b *boot, t *turn, monitor string, err error) {
	if o.boot != b || b.outcome != nil {
		o.thawing.Store(false)
		b.turn, t.err = nil, errReleased
		close(t.done) // who releases the boot ends the machine
		return
	}
	before := o.rec.Status.Sleep
	if err == nil {
		err = o.commitRestored(b, t)
	}
	if err != nil {
		o.onNotRestored(b, t, err, before.Monitor != monitor && monitor != "")
		return
	}
	o.thawing.Store(false)
	b.up = true
	o.serveWorkspace(b, true, func(err error) { o.svc.Log.Error("workspace not served", "instance", o.id, "error", err) })
	o.dropSnapshot(before.Snapshot)
	o.svc.tasks.Go(func() {
		state, err := o.turnMachine(b.machine, api.PhaseRunning)
		if state == vmm.StateRunning {
			o.tellAwake(b, nil, true)
		}
		if !o.post(func() { o.onThawed(b, t, state, err) }) {
			close(t.done)
		}
	})
}

func (o *owner) commitRestored(b *boot, t *turn) error {
	now := o.svc.now()
	next := o.rec.Status
	next.Phase, next.Machine, next.HostBoot = api.PhasePaused, b.machine, o.svc.HostBoot
	next.Sleep = store.Sleep{Reason: t.why, Since: &now, Origin: b.origin, Unaware: true}
	if err := o.save(next); err != nil {
		return err
	}
	o.publish()
	return nil
}

// tellAwake tells a guest that goes on what is not as it was: the time and,
// where it is in another machine and unaware of that, its network if it has
// another, and numbers that nobody else has. One that does not listen goes on
// all the same.
func (o *owner) tellAwake(b *boot, session *guestsession.Session, unaware bool) {
	if !unaware {
		o.setTime(b, session)
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, timeLimit)
	defer cancel()
	var err error
	as := b
	if b.lease == nil { // an earlier aegisd has restored it
		as = &boot{ctx: b.ctx, machine: b.machine, origin: b.origin}
		err = o.reattach(as)
	}
	if err == nil {
		err = o.withSession(ctx, b, nil, func(s *guestsession.Session) error { return s.Identify(ctx, o.identity(as)) })
	}
	if err != nil && b.ctx.Err() == nil {
		o.svc.Log.Warn("guest was not told that it slept", "instance", o.id, "machine", b.machine, "error", err)
	}
}

// onThawed is onTurned for a boot that was not followed yet.
func (o *owner) onThawed(b *boot, t *turn, state vmm.State, err error) {
	if o.boot == b && b.outcome == nil {
		o.running(b)
		o.svc.tasks.Go(func() { o.adoptExecs(b) })
	}
	o.onTurned(b, t, state, err)
}

// onNotRestored leaves the instance on disk, to be woken by the next who needs
// it. Where the monitor is another one than that which wrote the snapshot it
// cannot be expected to read it: then the instance is started anew.
func (o *owner) onNotRestored(b *boot, t *turn, err error, otherMonitor bool) {
	t.err = fmt.Errorf("waking instance %s: %w", o.id, err)
	lost := otherMonitor && api.CodeOf(err) != api.Unavailable && api.CodeOf(err) != api.LimitExceeded
	b.letGo()
	o.svc.tasks.Go(func() {
		end := func() error { return o.endMachine(b.machine) }
		if lost {
			end = func() error { return o.removeMachine(b.machine, b.origin) }
			o.forgetGuest(b.origin)
		}
		if err := o.insist(end); err != nil {
			o.svc.Log.Error("a machine that was not woken is left", "instance", o.id, "machine", b.machine, "error", err)
		}
		if !o.post(func() { o.onGivenUp(b, t, lost) }) {
			close(t.done)
		}
	})
}

func (o *owner) onGivenUp(b *boot, t *turn, lost bool) {
	o.thawing.Store(false)
	b.turn = nil
	defer close(t.done)
	if o.boot != b || b.outcome != nil {
		return
	}
	o.boot = nil
	o.svc.route(b.machine, nil)
	o.svc.Log.Warn("not woken", "instance", o.id, "error", t.err)
	if !lost {
		o.settleSleep()
		o.sleep.obstacle = oneLine(t.err.Error() + ": stop and start it to give its programs up")
		o.reconsider()
		return
	}
	t.err = o.startInstead(t)
}

// startInstead starts an instance whose snapshot this host cannot read.
func (o *owner) startInstead(t *turn) error {
	old := o.rec.Status.Sleep
	why := oneLine(fmt.Sprintf("its programs are lost: %s has written its memory, and what is here now cannot go on with it: %v", old.Monitor, t.err))
	next := o.svc.nextStart(o.rec.Status)
	next.Enabled = o.rec.Status.Enabled
	next.Sleep.Reason, next.Sleep.Since = why, next.Updated
	o.note(api.LogStderr, "[aegis] %s", why)
	if err := o.restart("", next); err != nil {
		return err
	}
	t.cold = true
	o.emit(api.EventLost, why)
	o.dropSnapshot(old.Snapshot)
	return nil
}

// rouseToStop wakes an instance that is on disk, so that its programs can be
// told to end, and waits for one on its way there or back. One that cannot be
// woken is given up.
func (o *owner) rouseToStop(ctx context.Context) error {
	for {
		var t *turn
		asleep := false
		err := o.ask(ctx, func() error {
			b := o.boot
			asleep = b == nil && o.rec.Status.Phase == api.PhaseHibernated
			if b != nil && b.outcome == nil && b.turn != nil && (b.turn.stop != nil || b.frozen || !b.up) {
				if t = b.turn; t.stop != nil {
					t.stop()
				}
			}
			return nil
		})
		switch {
		case err != nil:
			return err
		case t != nil:
			if err := o.await(ctx, t.done); err != nil {
				return err
			}
		case !asleep:
			return nil
		default:
			err := o.turnTo(ctx, api.PhaseRunning, "a stop")
			if ctx.Err() != nil || api.CodeOf(err) == api.Unavailable && o.svc.ctx.Err() != nil {
				return err
			}
			if err != nil {
				if err := o.ask(ctx, func() error { o.giveUpSleep(err); return nil }); err != nil {
					return err
				}
			}
		}
	}
}

// giveUpSleep brings an instance to rest that cannot be woken to be stopped.
func (o *owner) giveUpSleep(why error) {
	if o.boot != nil || o.rec.Status.Phase != api.PhaseHibernated {
		return
	}
	o.note(api.LogStderr, "[aegis] stopped without its programs being told: %v", why)
	b := o.newBoot()
	close(b.begun)
	o.boot = b
	o.release(outcome{phase: api.PhaseStopped, now: true})
}
