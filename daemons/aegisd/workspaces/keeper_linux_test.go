package workspaces_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
	"github.com/xfeldman/aegisvm/workspace/attend"
	"github.com/xfeldman/aegisvm/workspace/attend/attendtest"
)

func newKeeper(t *testing.T) (k *workspaces.Keeper, state string) {
	state = t.TempDir()
	named, mounts := filepath.Join(state, "workspaces"), filepath.Join(state, "mounts")
	return workspaces.New(workspaces.Config{
		Named: named, State: mounts, Log: slog.New(slog.DiscardHandler),
		Connect: func(ctx context.Context) (workspaces.Server, error) {
			return workspaces.Server{UnixConn: attendtest.Connect(t, attend.Config{State: mounts, Named: named, Apart: state})}, nil
		},
	}), state
}

func TestAdmitAndSweep(t *testing.T) {
	k, state := newKeeper(t)
	me := uint32(os.Geteuid())
	inside, around := filepath.Join(state, "workspaces"), filepath.Dir(state)
	apart := t.TempDir()
	link := filepath.Join(apart, "link")
	if err := os.Symlink(state, link); err != nil {
		t.Fatal(err)
	}
	admit := func(owner uint32, ref string) error {
		return k.Admit(t.Context(), workspaces.PlaceOf(owner, ref, "inst-1"))
	}
	for _, ref := range []string{"notes", "auto", apart} {
		if err := admit(me, ref); err != nil {
			t.Fatal(err)
		}
	}
	for ref, want := range map[string]api.Code{
		apart + "x": api.NotFound, "a b": api.InvalidArgument, apart + "/": api.InvalidArgument, "/etc/passwd": api.InvalidArgument,
		state: api.Denied, inside: api.Denied, around: api.Denied, "/": api.Denied, link: api.Denied,
	} {
		if err := admit(me, ref); api.CodeOf(err) != want {
			t.Errorf("%s: %v, expected %q", ref, err, want)
		}
	}
	if err := admit(me+1, "notes"); api.CodeOf(err) != api.Denied {
		t.Errorf("another user: %v", err)
	}
	info, err := os.Stat(filepath.Join(inside, "notes"))
	if err != nil || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != me {
		t.Errorf("the folder: %v, %v", info, err)
	}
	for _, dir := range []string{"mounts/m-gone", "mounts/m-there", "workspaces/.removed.x/y"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k.Sweep(t.Context(), func(machine string) bool { return machine == "m-there" })
	wantTree(t, state, ". mounts mounts/m-there workspaces workspaces/inst-1 workspaces/notes")
}

// TestAGuestCannotKeepItsWorkspace has folders that a guest has closed.
func TestAGuestCannotKeepItsWorkspace(t *testing.T) {
	k, state := newKeeper(t)
	p := workspaces.Place{Owner: uint32(os.Geteuid()), Folder: "notes"}
	if err := k.Admit(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(state, "workspaces/notes")
	if err := os.MkdirAll(filepath.Join(notes, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"a/b/c", "a/b", "a", "."} {
		if err := os.Chmod(filepath.Join(notes, dir), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.Remove(t.Context(), p); err != nil {
		t.Error(err)
	}
	if err := k.Remove(t.Context(), p); api.CodeOf(err) != api.NotFound {
		t.Errorf("again: %v", err)
	}
	wantTree(t, state, ". workspaces")
}

func wantTree(t *testing.T, dir, want string) {
	t.Helper()
	var left []string
	filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		rel, _ := filepath.Rel(dir, path)
		left = append(left, rel)
		return nil
	})
	if got := strings.Join(left, " "); got != want {
		t.Errorf("left: %s", got)
	}
}
