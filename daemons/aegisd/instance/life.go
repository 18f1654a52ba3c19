package instance

import (
	"context"
	"fmt"

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
	if err == nil {
		o.switchPorts(ctx, true)
	}
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
	o.switchPorts(ctx, false)
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
	if err := o.save(st); err != nil {
		return err
	}
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
	o.svc.nudgePorts() // the front goes by names
	o.emit(api.EventChanged, fmt.Sprintf("renamed from %q", firstOf(before, o.id)))
	return nil
}

// revise commits another spec and shows it. o.spec has what a boot goes by; it
// is read beside the owner and is not changed here.
func (o *owner) revise(spec api.InstanceSpec) error {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	at := o.svc.now()
	if err := o.svc.Records.Revise(ctx, o.id, spec, at); err != nil {
		return err
	}
	o.rec.Spec, o.rec.Status.Updated = spec, &at
	o.publish()
	return nil
}
