package instance_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
	"github.com/xfeldman/aegisvm/workspace/attend"
	"github.com/xfeldman/aegisvm/workspace/attend/attendtest"
)

// servers are real workspaces whose servers are played: each holds one stream
// of its guest.
type servers struct {
	*workspaces.Keeper
	fail error

	mu      sync.Mutex      // guards the field below
	serving map[string]bool // by machine
}

func newServers(t testing.TB, state string) *servers {
	named, mounts := filepath.Join(state, "workspaces"), filepath.Join(state, "mounts")
	return &servers{serving: map[string]bool{}, Keeper: workspaces.New(workspaces.Config{
		Named: named, State: mounts, Log: slog.New(slog.DiscardHandler),
		Connect: func(context.Context) (workspaces.Server, error) {
			return workspaces.Server{UnixConn: attendtest.Connect(t, attend.Config{Named: named, State: mounts, Apart: state})}, nil
		},
	})}
}

func (s *servers) Serve(ctx context.Context, _ workspaces.Place, g workspaces.Guest) error {
	if s.fail != nil {
		return s.fail
	}
	s.set(g.Machine, true)
	defer s.set(g.Machine, false)
	if stream, err := g.Dial(ctx); err == nil {
		defer stream.Close()
	}
	<-ctx.Done()
	return nil
}

func (s *servers) set(machine string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.serving[machine] = true
	} else {
		delete(s.serving, machine)
	}
}

func (s *servers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.serving)
}

func working(command, workspace string) api.InstanceSpec {
	return api.InstanceSpec{Command: []string{command}, Workspace: workspace}
}

func (w *world) createOwn(spec api.InstanceSpec) api.Instance {
	w.t.Helper()
	in, err := w.Create(w.t.Context(), api.Caller{UID: uint32(os.Getuid())}, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return in
}

func TestAWorkspaceIsServedAsLongAsItsMachine(t *testing.T) {
	w := newWorld(t)
	in := w.createOwn(working("sleep", "notes"))
	in = w.awaitPhase(in.ID, api.PhaseRunning)
	if got := w.machines.driver.Machine(in.Machine).Mounted(); got != "/workspace" {
		t.Errorf("mounted on %q", got)
	}
	if n := w.workspaces.count(); n != 1 {
		t.Errorf("%d servers of one machine", n)
	}
	w.kill()
	if n := w.workspaces.count(); n != 0 {
		t.Errorf("%d servers without aegisd", n)
	}
	w.start()
	w.awaitPhase(in.ID, api.PhaseRunning)
	if _, err := w.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if n := w.workspaces.count(); n != 0 {
		t.Errorf("%d servers of a stopped machine", n)
	}
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(w.path), "workspaces/notes")); err != nil {
		t.Errorf("the workspace went with its instance: %v", err)
	}
}

func TestAWorkspaceThatCannotBeServedFailsTheStart(t *testing.T) {
	w := newWorld(t)
	w.workspaces.fail = api.Errorf(api.Unavailable, "workspace: the server is missing")
	in := w.createOwn(working("sleep", "notes"))
	failed := w.awaitPhase(in.ID, api.PhaseFailed)
	if !strings.Contains(failed.LastError, "the server is missing") {
		t.Errorf("reason %q", failed.LastError)
	}
}

func TestAnothersWorkspaceIsRefused(t *testing.T) {
	w := newWorld(t)
	other := api.Caller{UID: uint32(os.Getuid()) + 1}
	_, err := w.Create(t.Context(), other, working("sleep", "notes"))
	if api.CodeOf(err) != api.Denied {
		t.Errorf("creating: %v", err)
	}
	in := w.createOwn(working("sleep", "mine"))
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if other.UID == 0 {
		return
	}
	if err := w.RemoveWorkspace(t.Context(), other, "mine"); api.CodeOf(err) != api.Denied {
		t.Errorf("removing: %v", err)
	}
	if all, err := w.PruneWorkspaces(t.Context(), other, false); err != nil || len(all) != 0 {
		t.Errorf("pruning: %v, %v", all, err)
	}
}

func TestWithoutServersWorkspacesAreUnavailable(t *testing.T) {
	w := newWorld(t)
	w.workspaces = nil
	w.restart()
	_, create := w.Create(t.Context(), api.Caller{UID: uint32(os.Getuid())}, working("sleep", "notes"))
	_, list := w.Workspaces(t.Context())
	remove := w.RemoveWorkspace(t.Context(), api.Caller{}, "notes")
	_, prune := w.PruneWorkspaces(t.Context(), api.Caller{}, true)
	for _, err := range []error{create, list, remove, prune} {
		if api.CodeOf(err) != api.Unavailable {
			t.Errorf("%v", errors.Join(err, errors.New("Unavailable was expected")))
		}
	}
}

// TestFilesAreTheOwners asks for those of others, and where there are none.
func TestFilesAreTheOwners(t *testing.T) {
	w := newWorld(t)
	me := api.Caller{UID: uint32(os.Getuid())}
	other := api.Caller{UID: me.UID + 1}
	in := w.createOwn(working("sleep", "notes"))
	data, err := os.Create(filepath.Join(t.TempDir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	for what, ask := range map[string]func(who api.Caller, ref string) error{
		"tree": func(who api.Caller, ref string) error { _, err := w.Tree(t.Context(), who, ref, "."); return err },
		"read": func(who api.Caller, ref string) error {
			_, err := w.ReadFile(t.Context(), who, ref, "f")
			return err
		},
		"write": func(who api.Caller, ref string) error { return w.WriteFile(t.Context(), who, ref, "f", data) },
		"blob": func(who api.Caller, ref string) error {
			_, err := w.PutBlob(t.Context(), who, ref, "image/gif", data)
			return err
		},
	} {
		if err := ask(other, in.ID); api.CodeOf(err) != api.Denied {
			t.Errorf("%s, another user: %v", what, err)
		}
		if err := ask(me, "nosuch"); api.CodeOf(err) != api.NotFound {
			t.Errorf("%s, no instance: %v", what, err)
		}
	}
	plain := w.createOwn(api.InstanceSpec{Command: []string{"sleep"}})
	if _, err := w.Tree(t.Context(), me, plain.ID, "."); api.CodeOf(err) != api.NotFound || !strings.Contains(err.Error(), "--workspace") {
		t.Errorf("no workspace: %v", err)
	}
	if left, err := w.Tree(t.Context(), api.Caller{}, in.ID, "."); err != nil || len(left) != 0 {
		t.Errorf("root sees %v, %v", left, err)
	}
}
