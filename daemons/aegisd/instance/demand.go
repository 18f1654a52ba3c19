package instance

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
)

// wakened is runs for those who need the instance itself, not only what runs
// in it: one with the policy on-demand is started for them. A disabled one is
// not, and of the other policies none, so that no job is run again for a look
// at what it left.
func (s *Service) wakened(ctx context.Context, ref, why string) (*running, error) {
	o, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	demanded := false
	err = o.ask(ctx, func() error {
		st := o.rec.Status
		demanded = o.spec.Restart == api.RestartOnDemand && st.Enabled && !o.removing &&
			(st.Phase == api.PhaseStarting || o.boot == nil && st.Phase != api.PhaseHibernated)
		return nil
	})
	if err == nil && demanded {
		err = s.startFor(ctx, o)
	}
	if err != nil {
		return nil, atBoundary(err)
	}
	return s.runs(ctx, o.id, why)
}

// startFor starts an instance and waits until it runs. Of many who need it at
// once one starts it.
func (s *Service) startFor(ctx context.Context, o *owner) error {
	if _, err := s.Start(ctx, o.id); err != nil {
		return err
	}
	_, err := s.Wait(ctx, o.id, api.UntilRunning)
	if api.CodeOf(err) == api.BadState {
		return api.Errorf(api.Unavailable, "instance %s was started on demand and does not run: %w", o.id, err)
	}
	return err
}
