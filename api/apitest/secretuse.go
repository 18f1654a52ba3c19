package apitest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// secretUse replaces the secrets of an instance, which its next start gets.
func (s suite) secretUse() {
	ctx := s.Context()
	for _, name := range []string{"OLD", "NEW", "OTHER"} {
		if _, err := s.SetSecret(ctx, name, "value"); err != nil {
			s.Fatal(err)
		}
	}
	in := s.create(api.InstanceSpec{
		Command: []string{"sleep"}, Handle: "web", Secrets: []string{"OLD"}, EnvSecrets: map[string]string{"VAR": "OTHER"},
	})
	s.awaitPhase("web", api.PhaseRunning)
	for _, c := range []struct {
		names []string
		want  api.UsedSecrets
	}{
		{[]string{"NEW"}, api.UsedSecrets{Keys: []string{"NEW", "OTHER"}, RestartRequired: true}},
		{nil, api.UsedSecrets{Keys: []string{"OTHER"}, RestartRequired: true}},
		{[]string{"*"}, api.UsedSecrets{Keys: []string{"*", "OTHER"}, RestartRequired: true}},
		{[]string{"MISSING"}, api.UsedSecrets{Keys: []string{"MISSING", "OTHER"}, RestartRequired: true}},
	} {
		got, err := s.UseSecrets(ctx, "web", c.names)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			s.Errorf("using %q: %v %s", c.names, err, diff)
		}
		if got, err := s.Get(ctx, in.ID); err != nil || !cmp.Equal(got.SecretKeys, c.want.Keys) {
			s.Errorf("the record has %q, %v", got.SecretKeys, err)
		}
	}
	_, err := s.UseSecrets(ctx, "web", []string{"no name"})
	s.wantCode("a name that is none", err, api.InvalidArgument)
	_, err = s.UseSecrets(ctx, "nosuch", nil)
	s.wantCode("an unknown instance", err, api.NotFound)
	if _, err := s.Stop(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Start(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	s.awaitPhase("web", api.PhaseFailed) // for want of MISSING
	got, err := s.UseSecrets(ctx, "web", []string{"NEW"})
	if err != nil || got.RestartRequired {
		s.Errorf("using a secret at rest: %+v, %v", got, err)
	}
}
