package instance

import (
	"context"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// maxExecs is how many clients of execs an instance may have at once.
const maxExecs = 256

// sessions are our ends of the sessions of clients that hold streams of execs.
// They say who keeps an instance busy, and tell those clients when it rests;
// what ends a program with its client is the guest. They belong to the owner.
type sessions map[*os.File]struct{}

func (s sessions) close() {
	for f := range s {
		f.Close()
	}
	clear(s)
}

// openExec gives a client of an exec its session, unless the instance has
// gone on to another boot or has too many. left, if not nil, is closed when the
// client has closed it.
func (o *owner) openExec(ctx context.Context, b *boot, left chan struct{}) (theirs *os.File, err error) {
	err = o.ask(ctx, func() error {
		switch {
		case o.boot != b || b.outcome != nil:
			return api.Errorf(api.BadState, "instance %s was stopped", o.id)
		case len(o.execs) >= maxExecs:
			return tooMany(o.id)
		}
		ours, f, err := sessionPair()
		if err != nil {
			return err
		}
		if o.execs == nil {
			o.execs = sessions{}
		}
		o.execs[ours], theirs = struct{}{}, f
		o.publish()
		o.svc.tasks.Go(func() {
			o.watchExec(ours)
			if left != nil {
				close(left)
			}
		})
		return nil
	})
	return theirs, err
}

func tooMany(id string) error {
	return api.Errorf(api.LimitExceeded, "instance %s has %d execs with a client: at most that many are allowed: end some", id, maxExecs)
}

// watchExec waits for the client of an exec to close its session.
func (o *owner) watchExec(ours *os.File) {
	stop := context.AfterFunc(o.svc.ctx, func() { ours.Close() })
	defer stop()
	buf := make([]byte, 64)
	for {
		if _, err := ours.Read(buf); err != nil {
			break
		}
	}
	o.post(func() {
		ours.Close()
		delete(o.execs, ours)
		o.disconnected()
	})
}
