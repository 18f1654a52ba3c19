package instance

import (
	"context"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// UseSecrets implements api.Aegis.
func (s *Service) UseSecrets(ctx context.Context, ref string, names []string) (used api.UsedSecrets, err error) {
	o, err := s.find(ref)
	if err != nil {
		return used, err
	}
	err = o.ask(ctx, func() error {
		used, err = o.onUseSecrets(names)
		return err
	})
	return used, atBoundary(err)
}

func (o *owner) onUseSecrets(names []string) (used api.UsedSecrets, err error) {
	spec := o.rec.Spec
	spec.Secrets = slices.Clone(names)
	if err := checkSecrets(spec); err != nil {
		return used, err
	}
	switch {
	case o.removing:
		return used, api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.isStarting():
		return used, api.Errorf(api.BadState, "instance %s is starting and reads its secrets: try again when it runs", o.id)
	}
	if err := o.revise(spec); err != nil {
		return used, err
	}
	o.spec.Secrets = spec.Secrets // no boot reads it now
	o.publish()
	state := o.rec.Status.Phase.State()
	used.Keys = append([]string{}, secretKeys(spec)...)
	used.RestartRequired = state == api.StateRunning || state == api.StatePaused
	return used, nil
}

// isStarting tells whether another goroutine may still read the spec.
func (o *owner) isStarting() bool {
	if o.boot == nil || o.rec.Status.Phase == api.PhaseRunning {
		return false
	}
	select {
	case <-o.boot.begun:
		return false
	default:
		return true
	}
}
