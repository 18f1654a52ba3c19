package instance

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/router"
)

var _ router.Waker = (*Service)(nil)

// Wake implements router.Waker.
func (s *Service) Wake(ctx context.Context, id string, renew bool) (router.Awake, error) {
	o, err := s.find(id)
	if err != nil {
		return router.Awake{}, err
	}
	var a router.Awake
	var b *boot
	for next := stepAwait; next != stepNone && err == nil; {
		if err = o.rouse(ctx, renew); err != nil {
			break
		}
		err = o.ask(ctx, func() (err error) {
			b = o.boot
			// It may have been put to sleep since it was awake.
			if next, err = o.nextStep(renew, true); err == nil && next == stepNone {
				a, err = o.openLease(renew)
			}
			return err
		})
	}
	if err == nil {
		a.Dialer, err = s.Machines.Dialer(ctx, b.machine, proto.PortForward)
	}
	if err == nil {
		a.Address = s.guestAddress(ctx, b)
	}
	if err != nil {
		a.Close()
		return router.Awake{}, atBoundary(err)
	}
	return a, nil
}

// step is what brings an instance nearer to being awake.
type step int

const (
	stepNone   step = iota // it is awake
	stepAwait              // something is under way
	stepResume             // it is paused
	stepStart              // it is at rest
)

// rouse returns when the program of an instance has been started and its
// processors run, or it can tell why that does not come about. With renew it
// begins nothing.
func (o *owner) rouse(ctx context.Context, renew bool) error {
	started := false
	for {
		var changed <-chan struct{} = *o.changed.Load() // before the look, so that no change is missed
		var next step
		err := o.ask(ctx, func() (err error) {
			next, err = o.nextStep(renew, started)
			if b := o.boot; b != nil && b.turn != nil {
				changed = b.turn.done // one that leads nowhere changes nothing
			}
			return err
		})
		if err != nil {
			return err
		}
		switch next {
		case stepNone:
			return nil
		case stepResume:
			err = o.turnTo(ctx, api.PhaseRunning, "a connection")
		case stepStart:
			started = true
			o.svc.Log.Info("started by a connection", "instance", o.id)
			_, err = o.svc.Start(ctx, o.id)
		default:
			err = o.await(ctx, changed)
		}
		if err != nil {
			return err
		}
	}
}

// await waits until changed is closed, or nothing can come of it any more.
func (o *owner) await(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-o.gone:
		return api.Errorf(api.NotFound, "instance %s was deleted", o.id)
	case <-ctx.Done():
		return interrupted(ctx)
	case <-o.svc.ctx.Done():
		return errClosing()
	}
}

// nextStep decides from where the instance is. Who renews begins nothing, and
// who has started it once does not do so again.
func (o *owner) nextStep(renew, started bool) (step, error) {
	b, phase := o.boot, o.rec.Status.Phase
	if b != nil && b.outcome != nil {
		phase = api.PhaseStopping // the record may still say why
	}
	switch {
	case o.removing:
		return 0, api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case !o.rec.Status.Enabled:
		return 0, api.Errorf(api.BadState, "instance %s is disabled: `aegis instance enable %s` allows starts", o.id, o.id)
	case renew && (b == nil || phase == api.PhaseStopping):
		return 0, api.Errorf(api.BadState, "instance %s is %s", o.id, phase)
	case b == nil && phase == api.PhaseHibernated:
		return stepResume, nil
	case b == nil && started:
		return 0, api.Errorf(api.Unavailable, "instance %s was started and is %s: %s", o.id, phase, firstOf(o.rec.Status.LastError, "its program has ended"))
	case b == nil && o.spec.Restart != api.RestartOnDemand:
		return 0, api.Errorf(api.BadState, "instance %s is %s, and no connection starts it (policy %s): `aegis instance start %s` does", o.id, phase, o.spec.Restart, o.id)
	case b == nil:
		return stepStart, nil
	case b.turn != nil && b.turn.stop != nil && !renew:
		return stepResume, nil // it is given up
	case phase == api.PhaseStopping, phase == api.PhaseStarting, b.turn != nil && !renew:
		return stepAwait, nil
	case b.exited:
		return 0, api.Errorf(api.BadState, "instance %s: its program has ended", o.id)
	case phase == api.PhasePaused && !renew:
		return stepResume, nil
	}
	return stepNone, nil
}
