package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// outcome is what an instance becomes when its boot has been released.
type outcome struct {
	phase api.Phase
	err   error // why it failed
	now   bool  // pull the plug instead of a clean poweroff
}

// release ends a boot: machine, session, streams. Called again it only makes
// an orderly end quicker.
func (o *owner) release(out outcome) {
	b := o.boot
	if b.outcome != nil {
		b.outcome.now = b.outcome.now || out.now
		if b.outcome.now && !b.hurrying {
			b.hurrying = true
			close(b.hurry)
		}
		return
	}
	b.outcome = &out
	o.endLeases()
	orderly := !out.now && out.err == nil && b.end == nil && b.up
	wake := o.waker(b)
	o.showStopping()
	if !orderly {
		b.cancel(errReleased)
	}
	session, followed, erase := b.session, b.followed, o.removing
	o.svc.tasks.Go(func() {
		err := o.takeDown(b, session, followed, orderly, erase, wake)
		o.postBoot(b, func() { o.onReleased(b, err) })
	})
}

// showStopping makes a stop visible. It is committed only where the instance
// stays: of one that goes, the row is deleted next, and a sync is the slowest
// part of going. A failure keeps its phase until nothing is left of it.
func (o *owner) showStopping() {
	if o.boot.outcome.phase != api.PhaseStopped {
		return
	}
	o.rec.Status.Phase = api.PhaseStopping
	if o.removing {
		o.show("")
	} else {
		o.commit("")
	}
}

// takeDown runs beside the owner until no process of the boot is left.
func (o *owner) takeDown(b *boot, session *guestsession.Session, followed <-chan struct{}, orderly, erase bool, wake func() bool) error {
	if orderly {
		if wake() && o.powerOff(b, session) && followed != nil {
			awaitFollowed(b.ctx, followed)
		}
		b.cancel(errReleased)
	}
	disk := make(chan struct{})
	go func() { // ends with the quick call
		defer close(disk)
		if erase {
			o.deleteDisk() // again and for certain in erase
		}
	}()
	<-b.begun
	err := o.insist(func() error { return o.removeMachine(b.machine, b.origin) })
	o.forgetWorkspace(b)
	<-disk
	if !erase {
		o.awaitLastWords(b)
	}
	return err
}

// awaitLastWords waits for what a dead machine has said: it is still on its
// way.
func (o *owner) awaitLastWords(b *boot) {
	b.output.await(o.svc.ctx)
	ctx, cancel := context.WithTimeout(o.svc.ctx, lastWords)
	defer cancel()
	b.logged.each(func(out *output) { out.await(ctx) })
}

// insist repeats a step of a release while those who carry it out are away,
// such as a vmmd that is being started again. They are given up after a call's
// time; the next start of aegisd tries by itself.
func (o *owner) insist(step func() error) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	for backoff := 50 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		err := step()
		if api.CodeOf(err) != api.Unavailable || !pause(ctx, backoff) {
			return err
		}
	}
}

// powerOff asks the guest to leave and waits until it has (true), is out of
// time, or somebody is in a hurry.
func (o *owner) powerOff(b *boot, session *guestsession.Session) (left bool) {
	grace := o.svc.Timings.StopGrace
	limit := time.NewTimer(grace + grace/2)
	defer limit.Stop()
	o.svc.tasks.Go(func() {
		err := o.withSession(b.ctx, b, session, func(s *guestsession.Session) error { return s.Poweroff(b.ctx, grace) })
		if err != nil {
			o.svc.Log.Debug("poweroff", "instance", o.id, "error", err)
		}
	})
	select {
	case <-b.powerless:
		return true
	case <-limit.C:
		o.svc.Log.Warn("guest did not power off in time", "instance", o.id, "machine", b.machine)
	case <-b.hurry:
	case <-b.ctx.Done():
	}
	return false
}

// withSession makes a call on the session of the boot; where aegisd was
// restarted a moment ago there is none yet.
func (o *owner) withSession(ctx context.Context, b *boot, session *guestsession.Session, call func(*guestsession.Session) error) error {
	if session == nil {
		fresh, err := guestsession.Open(ctx, o.dial(b))
		if err != nil {
			return err
		}
		defer fresh.Close()
		session = fresh
	}
	return call(session)
}

// removeMachine ends a machine and takes its guest's network; one that is not
// there is fine.
func (o *owner) removeMachine(machine, origin string) error {
	if err := o.endMachine(machine); err != nil {
		return err
	}
	ctx, cancel := o.svc.bounded()
	defer cancel()
	return o.detach(ctx, firstOf(origin, machine))
}

// endMachine ends a machine and forgets it; its guest may go on in another.
func (o *owner) endMachine(machine string) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	if machine == "" {
		return nil
	}
	err := o.svc.Machines.Stop(ctx, machine)
	if err == nil {
		err = o.svc.Machines.Remove(ctx, machine)
	}
	if err != nil && api.CodeOf(err) != api.NotFound {
		return fmt.Errorf("releasing machine %s: %w", machine, err)
	}
	return nil
}

func (o *owner) deleteDisk() error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	return o.svc.Images.DeleteDisk(ctx, o.id)
}

// onReleased brings the instance to rest. Where the machine could not be
// ended, its name stays in the record for the next try.
func (o *owner) onReleased(b *boot, err error) {
	out, st := *b.outcome, &o.rec.Status
	b.letGo()
	o.noteRest(out)
	o.boot = nil
	if out.err != nil {
		o.startErr = out.err
		st.LastError = oneLine(out.err.Error())
	}
	st.Phase = out.phase
	if err == nil {
		o.svc.route(b.machine, nil)
		st.Machine = ""
	} else {
		st.Phase, st.LastError = api.PhaseFailed, firstOf(st.LastError, oneLine(err.Error()))
		o.svc.Log.Error("release failed", "instance", o.id, "error", err)
	}
	now := o.svc.now()
	st.Stopped = &now
	snapshot := st.Sleep.Snapshot
	st.Sleep = store.Sleep{}
	if err != nil {
		st.Sleep.Origin = b.origin // of the network that is left
	}
	o.planRestart(ranFor(*st))
	o.commitRest()
	o.dropSnapshot(snapshot)
	o.tellRestart()
	o.log.Rest()
	b.left = err
	close(b.released)
	if err != nil && o.removing {
		o.giveUpRemoving(err)
	}
	o.awaitClient()
	o.reconsider()
}

// commitRest saves the resting state, but not of what is about to go.
func (o *owner) commitRest() {
	if o.removing && o.rec.Status.Machine == "" {
		return
	}
	o.commit(o.rec.Status.LastError)
}

// erase deletes the disk and then the record of an instance at rest. The
// record goes last, so that a crash in between finds the rest.
func (o *owner) erase() {
	if o.erasing {
		return
	}
	o.erasing = true
	machine, sleep := o.rec.Status.Machine, o.rec.Status.Sleep
	settled := o.svc.settle(o.id) // its ports are not opened again meanwhile
	o.svc.tasks.Go(func() {
		err := o.insist(func() error { return o.eraseAll(machine, sleep) })
		o.post(func() {
			o.onErased(err)
			settled()
		})
	})
}

func (o *owner) eraseAll(machine string, sleep store.Sleep) error {
	if machine != "" || sleep.Snapshot != "" {
		if err := o.removeMachine(machine, sleep.Origin); err != nil {
			return err
		}
	}
	if err := o.eraseSnapshot(sleep); err != nil {
		return err
	}
	if err := o.deleteDisk(); err != nil {
		return fmt.Errorf("deleting the disk: %w", err)
	}
	if err := o.eraseWorkspace(); err != nil {
		return err
	}
	o.closePorts()
	ctx, cancel := o.svc.bounded()
	defer cancel()
	if err := o.svc.Records.Delete(ctx, o.id); err != nil {
		return err
	}
	// Behind the record: an instance that could not be deleted keeps its log,
	// and a log without an instance goes at the next start at the latest.
	if err := o.svc.Config.Logs.Remove(o.id); err != nil {
		o.svc.Log.Error("log not deleted", "instance", o.id, "error", err)
	}
	return nil
}

func (o *owner) onErased(err error) {
	o.erasing = false
	if err != nil {
		o.giveUpRemoving(err)
		return
	}
	o.svc.forget(o)
	o.svc.route(o.rec.Status.Machine, nil)
	o.emit(api.EventDeleted, "")
	o.svc.Log.Info("deleted", "instance", o.id, "handle", o.rec.Spec.Handle)
	o.answerDeleters(nil)
	o.failWaiter(api.Errorf(api.NotFound, "instance %s was deleted", o.id))
	close(o.gone)
}

// giveUpRemoving leaves an instance that could not be deleted for the client
// to see and try again; the next start of aegisd tries by itself.
func (o *owner) giveUpRemoving(err error) {
	o.removing = false
	o.spec.AutoRemove = false
	o.rec.Status.Phase, o.rec.Status.LastError = api.PhaseFailed, oneLine(err.Error())
	o.commit(o.rec.Status.LastError)
	o.svc.Log.Error("delete failed", "instance", o.id, "error", err)
	o.answerDeleters(err)
}
