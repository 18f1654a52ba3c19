package instance

import (
	"context"
	"net"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// lease is a router's promise to have connections to an instance. As long as
// it is open the instance is needed.
type lease struct {
	conn *net.UnixConn
	uses int64 // followLease's
}

// maxLeases is how many an instance may have: one router holds one, and for a
// moment the next.
const maxLeases = 16

// openLease makes a lease of an instance that runs or, to renew one, is
// paused.
func (o *owner) openLease(renew bool) (a router.Awake, err error) {
	b, phase := o.boot, o.rec.Status.Phase
	switch {
	case b == nil || b.outcome != nil || phase != api.PhaseRunning && (phase != api.PhasePaused || !renew):
		return a, api.Errorf(api.Unavailable, "instance %s is %s again: try again", o.id, phase)
	case len(o.leases) >= maxLeases:
		return a, api.Errorf(api.LimitExceeded, "instance %s has %d leases already", o.id, len(o.leases))
	}
	ours, theirs, err := packet.Pair()
	if err != nil {
		return a, api.Errorf(api.Unavailable, "making a lease of instance %s: %w", o.id, err)
	}
	l := &lease{conn: ours}
	if o.leases == nil {
		o.leases = map[*lease]struct{}{}
	}
	o.leases[l] = struct{}{}
	o.tellLease(l)
	o.touch()
	o.svc.tasks.Go(func() { o.followLease(l) })
	a.Lease = theirs
	if st := o.rec.Status.Started; st != nil {
		a.Started = *st
	}
	return a, nil
}

// followLease hears how many connections there are until the lease ends.
func (o *owner) followLease(l *lease) {
	defer context.AfterFunc(o.svc.ctx, func() { l.conn.Close() })()
	for {
		var use router.LeaseUse
		files, err := packet.Receive(l.conn, &use)
		packet.CloseAll(files)
		if err != nil {
			break
		}
		n := int64(max(use.Connections, 0))
		o.traffic.Add(n - l.uses)
		l.uses = n
	}
	o.traffic.Add(-l.uses)
	o.post(func() {
		o.endLease(l)
		o.touch()
	})
}

func (o *owner) endLease(l *lease) {
	l.conn.Close()
	delete(o.leases, l)
}

// endLeases tells routers that the machine goes.
func (o *owner) endLeases() {
	for l := range o.leases {
		o.endLease(l)
	}
}

// tellLeases tells routers whether who needs the instance must wake it.
func (o *owner) tellLeases() {
	for l := range o.leases {
		o.tellLease(l)
	}
}

// leaseWord is how long a router may leave a word unread; it gets no more.
const leaseWord = time.Second

func (o *owner) tellLease(l *lease) {
	l.conn.SetWriteDeadline(time.Now().Add(leaseWord))
	if packet.Send(l.conn, router.LeaseState{Asleep: o.rec.Status.Phase == api.PhasePaused}) != nil {
		o.endLease(l)
	}
}

// reach is what clients see of an instance's ports.
func (o *owner) reach() api.Reach {
	r := api.Reach{Endpoints: o.endpoints}
	for _, e := range o.endpoints {
		r.ExposePorts = append(r.ExposePorts, e.GuestPort)
	}
	return r
}

// seen is what clients see, with what changes all the time.
func (o *owner) seen() api.Instance {
	in := *o.view.Load()
	in.ActiveConnections += int(o.traffic.Load())
	return in
}
