package instance

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
)

// timeLimit is how long a guest that goes on may take to hear what time it is.
const timeLimit = 5 * time.Second

// setTime tells the guest of a boot what time it is: its clock stood while it
// was paused. One that does not listen goes on with the wrong time.
func (o *owner) setTime(b *boot, session *guestsession.Session) {
	ctx, cancel := context.WithTimeout(b.ctx, timeLimit)
	defer cancel()
	tell := func(s *guestsession.Session) error { return s.SetTime(ctx, time.Now()) }
	err := o.withSession(ctx, b, session, tell)
	if err != nil && session != nil && !guestsession.Refused(err) {
		err = o.withSession(ctx, b, nil, tell) // the connection may have broken meanwhile
	}
	if err != nil && b.ctx.Err() == nil {
		o.svc.Log.Warn("guest keeps the time of its pause", "instance", o.id, "machine", b.machine, "error", err)
	}
}

// setTimeUnlessHurried sets the time for what the guest does before it ends,
// which waits for that unless somebody is in a hurry.
func (o *owner) setTimeUnlessHurried(b *boot, session *guestsession.Session) {
	told := make(chan struct{})
	o.svc.tasks.Go(func() {
		defer close(told)
		o.setTime(b, session)
	})
	select {
	case <-told:
	case <-b.hurry:
	case <-b.powerless:
	case <-b.ctx.Done():
	}
}
