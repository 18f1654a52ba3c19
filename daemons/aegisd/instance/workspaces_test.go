package instance_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
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
	return &servers{Keeper: workspaces.New(workspaces.Config{State: state}), serving: map[string]bool{}}
}

func (s *servers) Serve(ctx context.Context, machine, _ string, dial func(context.Context) (*os.File, error)) error {
	if s.fail != nil {
		return s.fail
	}
	s.set(machine, true)
	defer s.set(machine, false)
	if stream, err := dial(ctx); err == nil {
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
