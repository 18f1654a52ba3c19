package instance

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
)

// Wait implements api.Aegis.
func (s *Service) Wait(ctx context.Context, ref string, until api.Until) (api.Instance, error) {
	switch until {
	case api.UntilStopped, api.UntilRunning, api.UntilGone:
	default:
		return api.Instance{}, invalid("until %q: expected stopped, running or gone", shorten(string(until)))
	}
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	for {
		changed := *o.changed.Load() // before the view, so that no change is missed
		in := *o.view.Load()
		if done, err := awaited(in, until); done || err != nil {
			return in, err
		}
		select {
		case <-changed:
		case <-o.gone:
			return o.awaitedGone(until)
		case <-ctx.Done():
			return in, interrupted(ctx)
		case <-s.ctx.Done():
			return in, errClosing()
		}
	}
}

// awaited tells whether an instance is as awaited, or why it will not be.
func awaited(in api.Instance, until api.Until) (bool, error) {
	rests := atRest(in.Phase) && in.RestartAt == nil
	switch {
	case until == api.UntilStopped:
		return rests, nil
	case until == api.UntilRunning && in.Phase == api.PhaseRunning:
		return true, nil
	case until == api.UntilRunning && rests && in.LastError != "":
		return false, api.Errorf(api.BadState, "instance %s is %s: %s", in.ID, in.Phase, in.LastError)
	case until == api.UntilRunning && rests:
		return false, api.Errorf(api.BadState, "instance %s is %s: start it first", in.ID, in.Phase)
	}
	return false, nil
}

func (o *owner) awaitedGone(until api.Until) (api.Instance, error) {
	in := *o.view.Load()
	if until == api.UntilRunning {
		return in, api.Errorf(api.BadState, "instance %s was deleted", o.id)
	}
	return in, nil
}
