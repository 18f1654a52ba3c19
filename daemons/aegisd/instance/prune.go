package instance

import (
	"context"
	"errors"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Prune implements api.Aegis. It goes on when the caller does not wait.
func (s *Service) Prune(ctx context.Context, olderThan time.Duration, dry bool) ([]string, error) {
	if olderThan < 0 {
		return nil, invalid("age of %v: expected 0 or more", olderThan)
	}
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	before := s.now().Add(-olderThan)
	pending, ids := map[string]chan error{}, []string{}
	for _, in := range all {
		o, err := s.find(in.ID)
		if err != nil {
			continue // somebody was quicker
		}
		var done chan error
		err = o.ask(ctx, func() (err error) { done, err = o.onPrune(before, dry); return err })
		if err != nil {
			continue // it is gone, or not to be pruned
		}
		ids = append(ids, o.id)
		if !dry {
			pending[o.id] = done
		}
	}
	return ids, s.awaitDeletions(ctx, pending)
}

// onPrune begins the deletion of an instance that is stale; dry only tells
// that it is.
func (o *owner) onPrune(before time.Time, dry bool) (chan error, error) {
	if o.removing || !stale(*o.view.Load(), before) {
		return nil, errNotStale
	}
	if dry {
		return nil, nil
	}
	done := make(chan error, 1)
	o.removing, o.deleters = true, append(o.deleters, done)
	o.reconsider()
	return done, nil
}

var errNotStale = errors.New("the instance is not to be pruned")

// stale tells whether an instance came to rest before a moment and nothing is
// going to start it.
func stale(in api.Instance, before time.Time) bool {
	since := in.CreatedAt
	if in.StoppedAt != nil {
		since = *in.StoppedAt
	}
	switch {
	case !atRest(in.Phase), in.RestartAt != nil, since.After(before):
		return false
	default:
		return !in.Enabled || in.Restart != api.RestartOnDemand
	}
}

func (s *Service) awaitDeletions(ctx context.Context, pending map[string]chan error) (first error) {
	for id, done := range pending {
		select {
		case err := <-done:
			if err != nil && first == nil {
				first = api.Errorf(api.CodeOf(err), "pruning instance %s: %w", id, err)
			}
		case <-ctx.Done():
			return interrupted(ctx)
		case <-s.ctx.Done():
			return errClosing()
		}
	}
	return first
}
