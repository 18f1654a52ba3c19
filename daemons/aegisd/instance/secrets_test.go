package instance_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/image"
)

// keyFile is the file with the master key of the secrets.
func (w *world) keyFile() string { return filepath.Join(filepath.Dir(w.path), "master.key") }

// TestSecretWinsOverTheImage has the order of the layers below --env, which
// the suite cannot see.
func TestSecretWinsOverTheImage(t *testing.T) {
	w := newWorld(t)
	w.images.set(func(i *images) { i.config = image.Config{Env: []string{"A=image", "B=image", "C=image"}} })
	for _, name := range []string{"B", "C"} {
		if _, err := w.SetSecret(t.Context(), name, "secret"); err != nil {
			t.Fatal(err)
		}
	}
	spec := run("env")
	spec.Secrets, spec.Env = []string{"*"}, map[string]string{"C": "env"}
	out := readAll(t, w.attach(w.create(spec).ID).Stdout)
	for _, want := range []string{"A=image\n", "B=secret\n", "C=env\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
}

// TestTooManyBytesOfSecretsAreRefused keeps what "*" brings within what a
// Linux kernel takes.
func TestTooManyBytesOfSecretsAreRefused(t *testing.T) {
	w := newWorld(t)
	for i := range 17 {
		if _, err := w.SetSecret(t.Context(), "S"+string(rune('A'+i)), strings.Repeat("x", api.MaxSecret)); err != nil {
			t.Fatal(err)
		}
	}
	spec := run("env")
	spec.Secrets = []string{"*"}
	_, err := w.Attach(t.Context(), w.create(spec).ID)
	if api.CodeOf(err) != api.LimitExceeded || !contains(err, "fewer secrets") {
		t.Errorf("attach: %v", err)
	}
}

// TestLostKeyFailsTheStartByName also has the daemon start with a lost key.
func TestLostKeyFailsTheStartByName(t *testing.T) {
	w := newWorld(t)
	if _, err := w.SetSecret(t.Context(), "TOKEN", "x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.keyFile()); err != nil {
		t.Fatal(err)
	}
	w.restart()
	spec := run("env")
	spec.Secrets = []string{"TOKEN"}
	if _, err := w.Attach(t.Context(), w.create(spec).ID); api.CodeOf(err) != api.Unavailable || !contains(err, "TOKEN") {
		t.Errorf("attach: %v", err)
	}
	if _, err := os.Stat(w.keyFile()); !os.IsNotExist(err) {
		t.Errorf("a new key was made: %v", err)
	}
}

// TestCanaryIsFoundInTheGuestOnly greps all that is kept, told and logged for
// a value.
func TestCanaryIsFoundInTheGuestOnly(t *testing.T) {
	const canary = "canary-5b1d7f0e"
	w := newWorld(t)
	told := &recorder{}
	w.log = slog.New(slog.NewTextHandler(told, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.restart()
	events, err := w.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with the service
		defer close(ended)
		for ev := range events {
			told.keep(ev)
		}
	}()
	t.Run("over every transport", func(t *testing.T) { // which end with it
		for _, aegis := range []api.Aegis{w, overREST(t, w), overDBus(t, bustest.Start(t), w)} {
			useCanary(t, w, aegis, canary, told)
		}
	})
	found := grep(t, filepath.Dir(w.path), canary) // with its log not yet written back
	w.kill()
	<-ended
	found = append(found, grep(t, filepath.Dir(w.path), canary)...)
	if len(found) > 0 {
		t.Errorf("the value is in %v", found)
	}
	if text := told.String(); strings.Contains(text, canary) || !strings.Contains(text, "CANARY") || !strings.Contains(text, "phase") {
		t.Errorf("told and logged: %s", text)
	}
}

// useCanary makes every call that a secret passes through and keeps what it
// answers.
func useCanary(t *testing.T, w *world, aegis api.Aegis, canary string, told *recorder) {
	t.Helper()
	sec, err := aegis.SetSecret(t.Context(), "CANARY", canary)
	told.keep(sec, err)
	_, err = aegis.SetSecret(t.Context(), "bad name", canary)
	told.keep(err.Error())
	spec := run("env")
	spec.AutoRemove, spec.Secrets, spec.EnvSecrets = false, []string{"*"}, map[string]string{"X": "CANARY"}
	in, err := aegis.Create(t.Context(), api.Caller{}, spec)
	told.keep(in, err)
	if out := readAll(t, w.attach(in.ID).Stdout); strings.Count(out, canary) != 2 {
		t.Errorf("the program saw %q", out)
	}
	in, err = aegis.Get(t.Context(), in.ID)
	told.keep(in, err)
	list, err := aegis.List(t.Context())
	told.keep(list, err)
	secrets, err := aegis.Secrets(t.Context())
	told.keep(secrets, err, aegis.RotateKey(t.Context()))
}

// grep lists the files that contain a text.
func grep(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		raw, err := os.ReadFile(path)
		if files++; bytes.Contains(raw, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || files < 3 {
		t.Fatalf("searching %d files: %v", files, err)
	}
	return found
}

// recorder keeps what was told and logged.
type recorder struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *recorder) keep(all ...any) {
	for _, v := range all {
		raw, err := json.Marshal(v)
		if err != nil {
			raw = []byte(err.Error())
		}
		r.Write(append(raw, '\n'))
	}
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}
