package instance

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// namesake finds the instance that has a handle.
func (s *Service) namesake(handle string) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		if handle != "" && o.view.Load().Handle == handle {
			return o
		}
	}
	return nil
}

// createAgain is a Create whose handle an instance has already.
func (s *Service) createAgain(ctx context.Context, o *owner, given api.InstanceSpec) (api.Instance, error) {
	err := o.ask(ctx, func() error { return o.onCreateAgain(given) })
	if err != nil {
		return api.Instance{}, atBoundary(err)
	}
	return s.Start(ctx, o.id)
}

func (o *owner) onCreateAgain(given api.InstanceSpec) error {
	have := o.rec.Spec
	if len(given.Command) == 0 {
		given.Command = have.Command // the name alone is enough
	}
	if err := o.svc.Limits.validate(given); err != nil {
		return err
	}
	given.Exposes = exposesWithDefaults(given.Exposes)
	st := o.rec.Status
	other := difference(given, withDefaults(have))
	switch {
	case o.boot != nil, !atRest(st.Phase), o.removing:
		return api.Errorf(api.Exists, "%q is the name of %s already, which is %s: choose another or delete it", have.Handle, o.id, st.Phase)
	case given.Attach, given.AutoRemove, have.AutoRemove:
		return api.Errorf(api.Exists, "%q is the name of %s already: choose another or delete it", have.Handle, o.id)
	case other != "":
		return api.Errorf(api.Exists, "%q is the name of %s already, which has another %s: delete it, or start it as it is", have.Handle, o.id, other)
	}
	secrets := append(slices.Clone(have.Secrets), given.Secrets...)
	slices.Sort(secrets)
	if secrets = slices.Compact(secrets); len(secrets) == len(have.Secrets) {
		return nil
	}
	have.Secrets = secrets
	if err := checkSecrets(have); err != nil {
		return err
	}
	o.spec.Secrets = secrets // no boot reads it now
	return o.revise(have)
}

// difference names a field of the API that is given and is not what an
// instance has; secrets are added instead.
func difference(given, have api.InstanceSpec) string {
	want, got := fields(given), fields(have)
	for _, free := range []string{"secrets", "rows", "cols", "term"} {
		delete(want, free) // a terminal takes its client's size and kind
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if string(want[name]) != string(got[name]) {
			return name
		}
	}
	return ""
}

// fields are what a spec says, by its names in JSON.
func fields(spec api.InstanceSpec) (all map[string]json.RawMessage) {
	text, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return nil // a spec is strings, numbers and maps of them
	}
	return all
}
