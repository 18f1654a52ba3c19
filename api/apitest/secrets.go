package apitest

import (
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func (s suite) set(name, value string) api.Secret {
	s.Helper()
	sec, err := s.SetSecret(s.Context(), name, value)
	if err != nil || sec.Name != name || sec.CreatedAt.IsZero() {
		s.Fatalf("setting secret %s: %+v, %v", name, sec, err)
	}
	return sec
}

func (s suite) secrets() {
	ctx := s.Context()
	if all, err := s.Secrets(ctx); err != nil || len(all) != 0 {
		s.Errorf("at first: %v, %v", all, err)
	}
	second, first := s.set("_b", "1"), s.set("A_1", strings.Repeat("x", api.MaxSecret))
	list := func(want ...api.Secret) {
		s.Helper()
		if all, err := s.Secrets(ctx); err != nil || !cmp.Equal(want, all) {
			s.Errorf("list: %v, %s", err, cmp.Diff(want, all))
		}
	}
	list(first, second)
	if err := s.RotateKey(ctx); err != nil {
		s.Fatalf("rotating the key: %v", err)
	}
	list(first, second)
	again := s.set("A_1", "other")
	if !again.CreatedAt.After(first.CreatedAt) {
		s.Errorf("set at %v, again at %v", first.CreatedAt, again.CreatedAt)
	}
	list(again, second)
	if err := s.DeleteSecret(ctx, "_b"); err != nil {
		s.Fatal(err)
	}
	s.wantCode("second delete", s.DeleteSecret(ctx, "_b"), api.NotFound)
	list(again)
}

func (s suite) secretRefusals() {
	const canary = "the-canary"
	for name, c := range map[string]struct{ name, value, word string }{
		"an empty name":     {"", canary, ""}, // a path of REST cannot even say it
		"a space":           {"a b", canary, "letters"},
		"a slash":           {"a/b", canary, "letters"},
		"an equals sign":    {"a=b", canary, "letters"},
		"a digit first":     {"1a", canary, "letters"},
		"a newline":         {"a\n", canary, "letters"},
		"the star":          {"*", canary, "letters"},
		"a long name":       {strings.Repeat("a", 129), canary, "128"},
		"an empty value":    {"A", "", "empty"},
		"a long value":      {"A", canary + strings.Repeat("x", api.MaxSecret), "65536"},
		"NUL in a value":    {"A", canary + "\x00", "NUL"},
		"a value not UTF-8": {"A", canary + "\xff", "UTF-8"},
	} {
		_, err := s.SetSecret(s.Context(), c.name, c.value)
		if c.name != "" {
			s.wantCode(name, err, api.InvalidArgument)
		}
		if err == nil || !strings.Contains(err.Error(), c.word) || strings.Contains(err.Error(), canary) {
			s.Errorf("%s: %v", name, err)
		}
	}
	for name, spec := range map[string]api.InstanceSpec{
		"a bad name":             {Command: []string{"env"}, Secrets: []string{"a b"}},
		"a bad source":           {Command: []string{"env"}, EnvSecrets: map[string]string{"A": "*"}},
		"a bad variable":         {Command: []string{"env"}, EnvSecrets: map[string]string{"A=": "B"}},
		"more than there can be": {Command: []string{"env"}, Secrets: make([]string, 1001)},
	} {
		_, err := s.Create(s.Context(), api.Caller{}, spec)
		s.wantCode(name, err, api.InvalidArgument)
	}
	if all, err := s.Secrets(s.Context()); err != nil || len(all) != 0 {
		s.Errorf("after refusals: %v, %v", all, err)
	}
}

// environment runs env with a spec and returns what it printed but PATH.
func (s suite) environment(spec api.InstanceSpec) []string {
	s.Helper()
	spec.Command, spec.Attach, spec.AutoRemove = []string{"env"}, true, true
	in := s.create(spec)
	streams := s.attach(in.ID)
	var got []string
	for line := range strings.Lines(s.read(streams.Stdout)) {
		if !strings.HasPrefix(line, "PATH=") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	streams.Close()
	s.awaitGone(in.ID)
	return got
}

func (s suite) secretEnv() {
	s.set("A", "a=1")
	s.set("B", "b")
	for name, c := range map[string]struct {
		spec api.InstanceSpec
		want []string
	}{
		"none":             {api.InstanceSpec{}, nil},
		"by name":          {api.InstanceSpec{Secrets: []string{"A"}}, []string{"A=a=1"}},
		"all":              {api.InstanceSpec{Secrets: []string{"*"}}, []string{"A=a=1", "B=b"}},
		"renamed":          {api.InstanceSpec{EnvSecrets: map[string]string{"X": "A", "Y": "A"}}, []string{"X=a=1", "Y=a=1"}},
		"renamed over all": {api.InstanceSpec{Secrets: []string{"*"}, EnvSecrets: map[string]string{"A": "B"}}, []string{"A=b", "B=b"}},
		"env over secrets": {api.InstanceSpec{Secrets: []string{"A", "B"}, Env: map[string]string{"A": "mine"}}, []string{"A=mine", "B=b"}},
	} {
		if diff := cmp.Diff(c.want, s.environment(c.spec)); diff != "" {
			s.Errorf("%s: %s", name, diff)
		}
	}
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, Secrets: []string{"B", "*"}, EnvSecrets: map[string]string{"X": "B", "Y": "A"}})
	if diff := cmp.Diff([]string{"*", "A", "B"}, in.SecretKeys); diff != "" {
		s.Errorf("secret_keys: %s", diff)
	}
}

func (s suite) secretMissing() {
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, EnvSecrets: map[string]string{"X": "NOT_THERE"}})
	failed := s.awaitPhase(in.ID, api.PhaseFailed)
	if !strings.Contains(failed.LastError, "NOT_THERE") || !strings.Contains(failed.LastError, "aegis secret set") {
		s.Errorf("reason: %q", failed.LastError)
	}
	s.set("NOT_THERE", "now")
	if _, err := s.Start(s.Context(), in.ID); err != nil {
		s.Fatal(err)
	}
	s.awaitPhase(in.ID, api.PhaseRunning)
}
