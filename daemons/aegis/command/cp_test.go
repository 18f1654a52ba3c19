package command

import (
	"context"
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestPlacesAreToldApart(t *testing.T) {
	for arg, want := range map[string]place{
		"web:/etc": {"web", "/etc"}, "web:etc": {"web", "etc"}, "web:a:b": {"web", "a:b"}, "inst-1:/": {"inst-1", "/"},
		"a": {"", "a"}, "./a:b": {"", "./a:b"}, "/a:b": {"", "/a:b"}, "a/b:c": {"", "a/b:c"}, "..": {"", ".."}, ":x": {"", ":x"}, "-": {"", "-"},
	} {
		if got := placeOf(arg); got != want {
			t.Errorf("%s: %+v, want %+v", arg, got, want)
		}
	}
}

func TestPlacesAreCompleted(t *testing.T) {
	serve(t, &fakeAegis{instances: []api.Instance{{ID: "inst-1", Handle: "web", Phase: api.PhaseRunning, Command: []string{"serve"}}}})
	t.Chdir(t.TempDir())
	if err := os.WriteFile("weather", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"cp", "we"}, []string{"web:\trunning serve", "weather"}},
		{[]string{"cp", "weather", "w"}, []string{"web:\trunning serve", "weather"}},
		{[]string{"cp", "web:/etc", "w"}, nil}, // files, which the shell knows
		{[]string{"cp", "./w"}, nil},
		{[]string{"cp", "a", "b", ""}, nil},
	} {
		if diff := cmp.Diff(c.want, slices.Clip(completed(t, c.args...)), equateEmpty); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

// refusedCopies refuses what it is asked to copy, once the test says so.
type refusedCopies struct {
	api.Aegis
	asked chan any
	err   error
}

func (r *refusedCopies) CopyFrom(ctx context.Context, ref string, spec api.CopyFromSpec) (*api.Streams, error) {
	return r.refuse(ctx, ref, spec)
}

func (r *refusedCopies) CopyTo(ctx context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	return r.refuse(ctx, ref, spec)
}

func (r *refusedCopies) refuse(ctx context.Context, ref string, spec any) (*api.Streams, error) {
	r.asked <- []any{ref, spec}
	if r.err == nil {
		<-ctx.Done()
	}
	return nil, r.err
}

func TestCopiesAreAskedFor(t *testing.T) {
	f := &refusedCopies{asked: make(chan any, 1), err: api.Errorf(api.NotFound, "no such file there")}
	serve(t, f)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []any
	}{
		{[]string{"cp", "web:/a", "."}, []any{"web", api.CopyFromSpec{Path: "/a"}}},
		{[]string{"cp", "-L", "web:a/.", "-"}, []any{"web", api.CopyFromSpec{Path: "a/.", FollowLink: true}}},
		{[]string{"cp", "f", "web:/b"}, []any{"web", api.CopyToSpec{Path: "/b"}}},
		{[]string{"cp", "-a", "f", "web:/b/"}, []any{"web", api.CopyToSpec{Path: "/b/", Owner: true}}},
		{[]string{"cp", "-", "web:/b"}, []any{"web", api.CopyToSpec{Path: "/b", Extract: true}}},
	} {
		code, stdout, stderr := aegis(t, c.args...)
		if code != 1 || stdout != "" || stderr != "aegis: no such file there\n" {
			t.Errorf("%q: exit %d, %q, %q", c.args, code, stdout, stderr)
		}
		if diff := cmp.Diff(any(c.want), <-f.asked); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

func TestACopyEndsWithASignal(t *testing.T) {
	f := &refusedCopies{asked: make(chan any)}
	serve(t, f)
	go func() {
		<-f.asked
		syscall.Kill(os.Getpid(), syscall.SIGTERM)
	}()
	if code, stdout, stderr := aegis(t, "cp", "web:/a", t.TempDir()); code != 128+15 || stdout+stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestTheFirstSignalIsTheCause(t *testing.T) {
	ctx, stop := untilSignal(t.Context())
	defer stop()
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	<-ctx.Done()
	if sig, ok := errors.AsType[signalError](context.Cause(ctx)); !ok || syscall.Signal(sig) != syscall.SIGHUP {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}
