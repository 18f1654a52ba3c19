package instance

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// Keepalive implements api.Aegis. The lease is on disk before the instance is
// woken for it, and before the answer.
func (s *Service) Keepalive(ctx context.Context, ref string, l api.Lease) (api.Instance, error) {
	if err := checkLease(l); err != nil {
		return api.Instance{}, err
	}
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.ask(ctx, func() error { return o.onKeepalive(l) })
	if err == nil {
		err = o.awaken(ctx, "a lease")
	}
	return *o.view.Load(), atBoundary(err)
}

// Release implements api.Aegis.
func (s *Service) Release(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.ask(ctx, func() error { return o.lend(store.Lease{}) })
	return *o.view.Load(), atBoundary(err)
}

const maxLeaseReason = 200

func checkLease(l api.Lease) error {
	switch {
	case l.TTLMS < 0 || l.TTLMS > api.LongestLease.Milliseconds():
		return invalid("ttl_ms %d: expected 0 to %d, which is %v", l.TTLMS, api.LongestLease.Milliseconds(), api.LongestLease)
	case len(l.Reason) > maxLeaseReason:
		return invalid("reason of %d bytes is too long: at most %d are allowed", len(l.Reason), maxLeaseReason)
	case !printable(l.Reason):
		return invalid("reason %q is no printable text", shorten(l.Reason))
	}
	return nil
}

func (o *owner) onKeepalive(l api.Lease) error {
	switch phase := o.rec.Status.Phase; {
	case o.removing:
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.boot != nil && o.boot.outcome == nil, phase == api.PhaseHibernated:
	default:
		return api.Errorf(api.BadState, "instance %s is %s: start it, a lease only keeps one awake", o.id, phase)
	}
	ttl := cmp.Or(time.Duration(l.TTLMS)*time.Millisecond, api.DefaultLease)
	until := o.svc.now().Add(ttl).UTC()
	return o.lend(store.Lease{Until: &until, Reason: l.Reason})
}

// lend makes a lease the one that the instance has.
func (o *owner) lend(l store.Lease) error {
	if l == o.rec.Status.Lease {
		return nil
	}
	next := o.rec.Status
	next.Lease = l
	if err := o.save(next); err != nil {
		return err
	}
	o.publish()
	return nil
}

// lent is the lease that keeps the instance awake now; its time is zero
// without one.
func (o *owner) lent() (until time.Time, reason string) {
	l := o.rec.Status.Lease
	if l.Until == nil || !o.svc.now().Before(*l.Until) {
		return time.Time{}, ""
	}
	switch o.rec.Status.Phase {
	case api.PhaseStarting, api.PhaseRunning, api.PhasePaused, api.PhaseHibernated:
	default: // it ended with the stop
		return time.Time{}, ""
	}
	return *l.Until, cmp.Or(l.Reason, "a client gave no reason")
}

// leased is what clients see of it.
func (o *owner) leased() api.Leased {
	until, _ := o.lent()
	if until.IsZero() {
		return api.Leased{}
	}
	return api.Leased{LeaseHeld: true, LeaseReason: o.rec.Status.Lease.Reason, LeaseExpiresAt: &until}
}

// leaseUse says how a lease keeps the instance awake, empty without one.
func (o *owner) leaseUse() string {
	until, reason := o.lent()
	if until.IsZero() {
		return ""
	}
	return fmt.Sprintf("a lease until %s: %s", until.Format(time.RFC3339), reason)
}
