package instance

import (
	"context"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// Rejoin implements api.Aegis.
func (s *Service) Rejoin(ctx context.Context, ref string) (session *os.File, err error) {
	o, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	err = o.ask(ctx, func() error {
		session, err = o.onRejoin()
		return err
	})
	return session, atBoundary(err)
}

func (o *owner) onRejoin() (*os.File, error) {
	switch {
	case o.removing:
		return nil, api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.boot == nil || o.boot.outcome != nil:
		return nil, api.Errorf(api.BadState, "instance %s has no session to rejoin: it is %s", o.id, o.rec.Status.Phase)
	case !o.rec.Status.Attached:
		return nil, api.Errorf(api.BadState, "nobody holds the streams of instance %s: attach to it", o.id)
	case o.session != nil && o.taken:
		return nil, api.Errorf(api.BadState, "the client of instance %s is there: its session stands", o.id)
	}
	o.svc.Log.Info("client is back", "instance", o.id)
	o.closeSession() // one that got lost on its way
	theirs, err := o.openSession()
	if err == nil {
		o.taken = false
	}
	return theirs, err
}

// onTaken is told when the client has said that it has a session.
func (o *owner) onTaken(session *os.File) {
	if o.session == session {
		o.taken = true
	}
}

// onLeft is told when a session has ended at its other end. A client that
// never had it may ask again.
func (o *owner) onLeft(session *os.File) {
	if o.session != session {
		return
	}
	o.closeSession()
	o.disconnected()
	if o.taken {
		o.client = clientGone
	} else {
		o.client = clientAwaited
		o.awaitClient()
	}
	o.reconsider()
}

// openSession makes the session of a client that is there, and returns its
// end of it.
func (o *owner) openSession() (theirs *os.File, err error) {
	ours, theirs, err := sessionPair()
	if err != nil {
		return nil, err
	}
	o.stopWaitingForClient()
	o.session, o.client, o.taken = ours, clientOpen, true
	o.publish()
	o.svc.tasks.Go(func() { o.watchSession(ours) })
	return theirs, nil
}
