package command

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func (f *fakeAegis) SetSecret(_ context.Context, name, value string) (api.Secret, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.secrets == nil {
		f.secrets = map[string]string{}
	}
	f.secrets[name] = value
	return api.Secret{Name: name}, nil
}

func (f *fakeAegis) Secrets(context.Context) (all []api.Secret, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.secrets)) {
		all = append(all, api.Secret{Name: name, CreatedAt: time.Unix(1, 0).UTC()})
	}
	return all, nil
}

func (f *fakeAegis) DeleteSecret(_ context.Context, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := f.secrets[name]; !there {
		return api.Errorf(api.NotFound, "no secret %q", name)
	}
	delete(f.secrets, name)
	return nil
}

func (f *fakeAegis) RotateKey(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotated++
	return nil
}

// aegisWith is aegis with something on stdin.
func aegisWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("in"), []byte(stdin), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(path("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(path("out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	errs, err := os.Create(path("err"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	code = Main(args, in, out, errs)
	text := func(name string) string {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, text("out"), text("err")
}

func TestSecretValueComesFromWhereTheUserSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		stdin  string
		args   []string
		want   string
		warned bool
	}{
		"stdin":              {"piped\n", nil, "piped", false},
		"one newline is cut": {"piped\n\n", []string{"-"}, "piped\n", false},
		"none to cut":        {"piped", []string{"-"}, "piped", false},
		"a file as it is":    {"", []string{"--from-file", file}, "from file\n", false},
		"the command line":   {"", []string{"given"}, "given", true},
		"too much":           {strings.Repeat("x", 1<<20), nil, strings.Repeat("x", api.MaxSecret+2), false}, // aegisd refuses it
	} {
		f := &fakeAegis{}
		serve(t, f)
		code, stdout, stderr := aegisWith(t, c.stdin, append([]string{"secret", "set", "KEY"}, c.args...)...)
		if code != 0 || stdout != "Secret KEY set\n" || strings.Contains(stderr, "warning") != c.warned || strings.Contains(stdout+stderr, "given") {
			t.Errorf("%s: exit %d, %q, %q", name, code, stdout, stderr)
		}
		if f.secrets["KEY"] != c.want {
			t.Errorf("%s: %d bytes were set, want %d", name, len(f.secrets["KEY"]), len(c.want))
		}
	}
}

func TestSecretsAreListedDeletedAndRotated(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"list"}, 0, "No secrets\n", ""},
		{[]string{"list", "-o", "json"}, 0, "[]\n", ""},
		{[]string{"set", "B", "-"}, 0, "Secret B set\n", ""},
		{[]string{"set", "A"}, 0, "Secret A set\n", ""},
		{[]string{"list"}, 0, "Secrets:\n  A\n  B\n", ""},
		{[]string{"rotate-key"}, 0, "Master key rotated\n", ""},
		{[]string{"delete", "X", "A"}, 1, "Secret A deleted\n", "aegis: no secret \"X\"\n"},
		{[]string{"list", "-o", "json"}, 0, "[\n  {\n    \"name\": \"B\",\n    \"created_at\": \"1970-01-01T00:00:01Z\"\n  }\n]\n", ""},
	} {
		code, stdout, stderr := aegisWith(t, "value", append([]string{"secret"}, c.args...)...)
		if code != c.code || stdout != c.stdout || stderr != c.stderr {
			t.Errorf("%v: exit %d, %q, %q; want %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.stderr)
		}
	}
	if f.rotated != 1 {
		t.Errorf("rotated %d times", f.rotated)
	}
}

func TestVariablesComeFromSecretsAndTheLastFlagWins(t *testing.T) {
	for _, c := range []struct {
		args    []string
		literal environment
		secrets []string
		renamed map[string]string
	}{
		{[]string{"--env", "KEY"}, nil, []string{"KEY"}, nil},
		{[]string{"--env", "K=secret.NAME"}, nil, nil, map[string]string{"K": "NAME"}},
		{[]string{"--env", "K=secret.K"}, nil, []string{"K"}, nil},
		{[]string{"--env", "*"}, nil, []string{"*"}, nil},
		{[]string{"--secret", "*", "--secret", "B", "--secret", "A"}, nil, []string{"*", "A", "B"}, nil},
		{[]string{"--env", "K=secret"}, environment{"K": "secret"}, nil, nil},
		{[]string{"--env", "K=1", "--env", "K"}, nil, []string{"K"}, nil},
		{[]string{"--env", "K", "--env", "K=1"}, environment{"K": "1"}, nil, nil},
		{[]string{"--env", "K", "--env", "K=secret.X"}, nil, nil, map[string]string{"K": "X"}},
		{[]string{"--env", "K=secret.X", "--secret", "K"}, nil, []string{"K"}, nil},
		{[]string{"--env", "X=secret.A", "--env", "Y=secret.A", "--env", "Z=1"}, environment{"Z": "1"}, nil, map[string]string{"X": "A", "Y": "A"}},
	} {
		f := &fakeAegis{}
		serve(t, f)
		aegis(t, append(append([]string{"run"}, c.args...), "true")...)
		if f.spec == nil {
			t.Errorf("%v: nothing was created", c.args)
			continue
		}
		want := api.InstanceSpec{
			Command: []string{"true"}, Env: c.literal, Secrets: c.secrets, EnvSecrets: c.renamed, Attach: true, AutoRemove: true,
		}
		if diff := cmp.Diff(want, *f.spec); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.args, diff)
		}
	}
}
