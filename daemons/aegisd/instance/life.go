package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// Restart implements api.Aegis. Killed between the two steps, it leaves the
// instance stopped.
func (s *Service) Restart(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.ask(ctx, func() error {
		switch {
		case o.removing:
			return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
		case o.spec.AutoRemove:
			return api.Errorf(api.BadState, "instance %s goes when its program ends: it cannot be restarted", o.id)
		}
		return checkAble(o.spec)
	})
	if err != nil {
		return *o.view.Load(), atBoundary(err)
	}
	if in, err := s.Stop(ctx, o.id); err != nil {
		return in, err
	}
	return s.Start(ctx, o.id)
}

// Enable implements api.Aegis.
func (s *Service) Enable(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.ask(ctx, func() error { return o.setEnabled(true) })
	return *o.view.Load(), atBoundary(err)
}

// Disable implements api.Aegis.
func (s *Service) Disable(ctx context.Context, ref string) (api.Instance, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	if err := o.ask(ctx, func() error { return o.setEnabled(false) }); err != nil {
		return *o.view.Load(), atBoundary(err)
	}
	return s.Stop(ctx, o.id)
}

// setEnabled commits the flag; a disabled instance has no restart due.
func (o *owner) setEnabled(enabled bool) error {
	st := o.rec.Status
	if o.removing {
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	}
	if st.Enabled == enabled {
		return nil
	}
	st.Enabled = enabled
	if !enabled {
		st.Revival = store.Revival{Halted: true, Count: st.Revival.Count}
	}
	ctx, cancel := o.svc.bounded()
	defer cancel()
	if err := o.svc.Records.Update(ctx, o.id, st); err != nil {
		return err
	}
	o.rec.Status = st
	if !enabled {
		o.disarmRestart()
	}
	o.publish()
	o.emit(api.EventChanged, map[bool]string{true: "enabled", false: "disabled"}[enabled])
	return nil
}

// unwanted tells of an instance that is not at rest whether it should be: the
// last aegisd was killed between the record of a stop or a disable and what
// was to follow.
func (o *owner) unwanted() bool {
	return !o.rec.Status.Enabled || o.rec.Status.Revival.Halted
}

// finishStop ends an adopted instance that should be at rest.
func (o *owner) finishStop() {
	if o.unwanted() && o.boot != nil && o.boot.outcome == nil {
		o.release(outcome{phase: api.PhaseStopped})
	}
}

// Rename implements api.Aegis.
func (s *Service) Rename(ctx context.Context, ref, handle string) (api.Instance, error) {
	if handle == "" {
		return api.Instance{}, invalid("handle is empty: expected the new name")
	}
	if err := checkHandle(api.InstanceSpec{Handle: handle}); err != nil {
		return api.Instance{}, err
	}
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, err
	}
	err = o.ask(ctx, func() error { return o.onRename(handle) })
	return *o.view.Load(), atBoundary(err)
}

func (o *owner) onRename(handle string) error {
	spec, before := o.rec.Spec, o.rec.Spec.Handle
	switch {
	case o.removing:
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case before == handle:
		return nil
	}
	spec.Handle = handle
	if err := o.revise(spec); err != nil {
		return err
	}
	o.emit(api.EventChanged, fmt.Sprintf("renamed from %q", firstOf(before, o.id)))
	return nil
}

// revise commits another spec and shows it. o.spec has what a boot goes by; it
// is read beside the owner and is not changed here.
func (o *owner) revise(spec api.InstanceSpec) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	if err := o.svc.Records.Revise(ctx, o.id, spec); err != nil {
		return err
	}
	o.rec.Spec = spec
	o.publish()
	return nil
}

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
		o.ask(ctx, func() error { // where it cannot be asked there is nothing to prune
			if o.removing || !stale(*o.view.Load(), before) {
				return nil
			}
			ids = append(ids, o.id)
			if dry {
				return nil
			}
			done := make(chan error, 1)
			o.removing, o.deleters = true, append(o.deleters, done)
			pending[o.id] = done
			o.reconsider()
			return nil
		})
	}
	return ids, s.awaitDeletions(ctx, pending)
}

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
