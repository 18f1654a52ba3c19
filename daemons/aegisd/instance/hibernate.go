package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/vmm"
)

// To hibernate, in this order: the machine stands still; its snapshot is whole
// and on disk; the record says hibernated and names it; the machine is ended.
// Before the record says so the machine is the instance, from then on the
// snapshot is, and a machine that is left must not go on. So a crash at any
// point leaves one of both.

// Hibernate implements api.Aegis.
func (s *Service) Hibernate(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	ran := o.view.Load().Phase == api.PhaseRunning
	if err := o.awaitNoLease(ctx); err != nil {
		return *o.view.Load(), atBoundary(err)
	}
	const why = "a user hibernated it"
	in, err := s.turn(ctx, o.id, api.PhasePaused, why)
	if err != nil || in.Phase == api.PhaseHibernated {
		return in, err
	}
	if err = o.awaitNoLease(ctx); err == nil {
		in, err = s.turn(ctx, o.id, api.PhaseHibernated, why)
	}
	if api.CodeOf(err) == api.BadState && ran { // somebody has come meanwhile
		_ = o.turnTo(ctx, api.PhaseRunning, "it is used and was not hibernated") // or it is at rest
	}
	return *o.view.Load(), atBoundary(err)
}

// notIfUsed refuses what would cut somebody off.
func (o *owner) notIfUsed(uses []string) error {
	if len(uses) == 0 || o.boot == nil {
		return nil
	}
	return api.Errorf(api.BadState, "instance %s is in use (%s): end that first, or pause it", o.id, strings.Join(uses, "; "))
}

// leaseLinger is how long a router may keep a lease behind its last connection.
const leaseLinger = 5 * time.Second

// awaitNoLease waits until routers have let go of an instance whose last
// connection has just ended. As long as one has a lease, a connection may be on
// its way that nobody has told of.
func (o *owner) awaitNoLease(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaseLinger)
	defer cancel()
	for {
		changed := *o.changed.Load() // before the look, so that no change is missed
		n := 0
		err := o.ask(ctx, func() error { n = len(o.leases); return o.notIfUsed(o.holders()) })
		if err != nil || n == 0 {
			return err
		}
		if err := o.await(ctx, changed); err != nil {
			return api.Errorf(api.BadState, "instance %s is in use (connections to its ports): %w", o.id, err)
		}
	}
}

func newSnapshot() string {
	id := make([]byte, 8)
	rand.Read(id)
	return "s-" + hex.EncodeToString(id)
}

// freeze begins to put a paused instance on disk.
func (o *owner) freeze(b *boot, why string) (*turn, error) {
	if phase := o.rec.Status.Phase; phase != api.PhasePaused {
		return nil, api.Errorf(api.BadState, "instance %s is %s again: somebody needed it", o.id, phase)
	}
	if err := o.notIfUsed(o.uses()); err != nil {
		return nil, err
	}
	t, snapshot := o.newTurn(b, api.PhaseHibernated, why), newSnapshot()
	ctx, stop := context.WithTimeout(b.ctx, o.svc.Timings.Save)
	t.stop = stop
	o.svc.tasks.Go(func() {
		defer stop()
		saved, err := o.svc.Machines.Snapshot(ctx, b.machine, snapshot)
		if err != nil {
			// It may have come through where nobody heard of it.
			o.tidySnapshot(snapshot)
		}
		if !o.post(func() { o.onSaved(b, t, saved, err) }) {
			close(t.done)
		}
	})
	return t, nil
}

// onSaved makes a snapshot the instance.
func (o *owner) onSaved(b *boot, t *turn, saved vmm.Saved, err error) {
	if o.boot != b || b.outcome != nil {
		b.turn, t.err = nil, errReleased
		o.dropSnapshot(saved.ID)
		close(t.done)
		return
	}
	if err == nil {
		err = o.commitSaved(b, t, saved)
		if err != nil {
			o.dropSnapshot(saved.ID)
		}
	}
	if err != nil {
		b.turn, t.err = nil, fmt.Errorf("hibernating instance %s: %w", o.id, err)
		if t.over {
			t.err = api.Errorf(api.BadState, "instance %s was not hibernated: somebody needed it", o.id)
		} else {
			o.notSlept(t.err)
		}
		close(t.done)
		if b.heard != "" {
			o.onMachineTurned(b, b.heard)
		}
		return
	}
	o.endFrozen(b, t)
}

func (o *owner) commitSaved(b *boot, t *turn, saved vmm.Saved) error {
	now := o.svc.now()
	next := o.rec.Status
	next.Phase = api.PhaseHibernated
	next.Sleep = store.Sleep{
		Reason: t.why, Since: &now, Idle: t.idle, Snapshot: saved.ID, Bytes: saved.Bytes, Monitor: monitorOf(saved), Origin: b.origin,
	}
	if err := o.save(next); err != nil {
		return err
	}
	b.frozen = true
	o.show(t.why)
	o.tellTurn(t)
	return nil
}

// monitorOf names what wrote a snapshot.
func monitorOf(s vmm.Saved) string { return s.Driver + " " + s.Version + " " + s.Accel }

// endFrozen ends the machine of an instance that is on disk. Nothing wakes the
// instance before it is gone, for it holds the disk.
func (o *owner) endFrozen(b *boot, t *turn) {
	b.frozen, b.turn = true, t
	o.endLeases()
	b.letGo()
	o.svc.tasks.Go(func() {
		b.serving.Wait() // its server stays behind what it knows, for the next
		err := o.insist(func() error { return o.endMachine(b.machine) })
		if !o.post(func() { o.onFrozenEnded(b, t, err) }) {
			close(t.done)
		}
	})
}

func (o *owner) onFrozenEnded(b *boot, t *turn, err error) {
	b.turn = nil
	defer close(t.done)
	if o.boot != b || b.outcome != nil {
		return
	}
	o.boot = nil
	if err != nil {
		o.svc.Log.Error("the machine of a hibernated instance is left", "instance", o.id, "machine", b.machine, "error", err)
	} else {
		o.svc.route(b.machine, nil)
		o.rec.Status.Machine = ""
		o.commit("")
	}
	o.log.Rest()
	o.reconsider()
}

// resumeHibernated goes on where the last aegisd stopped with an instance whose
// record says that it is on disk.
func (o *owner) resumeHibernated(kept bool) {
	switch st := &o.rec.Status; {
	case !kept:
		o.comeToRest(api.Errorf(api.Unavailable, "its snapshot %s is gone, and its programs with it", st.Sleep.Snapshot))
	case st.Machine != "":
		b := o.newBoot()
		close(b.begun)
		o.boot = b
		o.endFrozen(b, o.newTurn(b, api.PhaseHibernated, ""))
	}
	if o.unwanted() {
		o.svc.tasks.Go(func() {
			if _, err := o.svc.Stop(o.svc.ctx, o.id); err != nil && o.svc.ctx.Err() == nil {
				o.svc.Log.Error("a hibernated instance that should be at rest is not", "instance", o.id, "error", err)
			}
		})
	}
}

// dropSnapshot removes a snapshot beside all else; one that resists is found
// without a record by the next aegisd.
func (o *owner) dropSnapshot(snapshot string) {
	if snapshot != "" {
		o.svc.tasks.Go(func() { o.tidySnapshot(snapshot) })
	}
}

func (o *owner) tidySnapshot(snapshot string) {
	if err := o.insist(func() error { return o.removeSnapshot(snapshot) }); err != nil && o.svc.ctx.Err() == nil {
		o.svc.Log.Warn("a snapshot is left", "instance", o.id, "snapshot", snapshot, "error", err)
	}
}

func (o *owner) removeSnapshot(snapshot string) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	return o.svc.Machines.RemoveSnapshot(ctx, snapshot)
}

// eraseSnapshot removes what an instance that is deleted had on disk, and what
// the server of its workspace knew.
func (o *owner) eraseSnapshot(sleep store.Sleep) error {
	if sleep.Snapshot == "" {
		return nil
	}
	o.forgetGuest(sleep.Origin)
	if err := o.removeSnapshot(sleep.Snapshot); err != nil {
		return fmt.Errorf("deleting the snapshot: %w", err)
	}
	return nil
}
