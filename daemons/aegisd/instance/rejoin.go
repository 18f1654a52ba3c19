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
	case o.session != nil:
		return nil, api.Errorf(api.BadState, "the client of instance %s is there: its session stands", o.id)
	}
	o.svc.Log.Info("client is back", "instance", o.id)
	return o.openSession()
}

// openSession makes the session of a client that is there, and returns its
// end of it.
func (o *owner) openSession() (theirs *os.File, err error) {
	ours, theirs, err := sessionPair()
	if err != nil {
		return nil, err
	}
	o.stopWaitingForClient()
	o.session, o.client = ours, clientOpen
	o.svc.tasks.Go(func() { o.watchSession(ours) })
	return theirs, nil
}
