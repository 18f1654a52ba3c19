package command

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func (f *fakeAegis) Workspaces(context.Context) ([]api.Workspace, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.workspaces), nil
}

func (f *fakeAegis) RemoveWorkspace(_ context.Context, _ api.Caller, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.workspaces)
	f.workspaces = slices.DeleteFunc(f.workspaces, func(w api.Workspace) bool { return w.Name == name })
	if len(f.workspaces) == n {
		return api.Errorf(api.NotFound, "no workspace %q", name)
	}
	return nil
}

func (f *fakeAegis) PruneWorkspaces(_ context.Context, _ api.Caller, dry bool) (all []api.Workspace, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	unused := func(w api.Workspace) bool { return len(w.Instances) == 0 }
	for _, w := range f.workspaces {
		if unused(w) {
			all = append(all, w)
		}
	}
	if !dry {
		f.workspaces = slices.DeleteFunc(f.workspaces, unused)
	}
	return all, nil
}

func TestWorkspaceCommands(t *testing.T) {
	serve(t, &fakeAegis{workspaces: []api.Workspace{
		{Name: "notes", Path: "/state/notes"}, {Name: "other", Path: "/state/other"}, {Name: "used", Path: "/state/used", Instances: []string{"inst-1"}},
	}})
	for _, c := range []struct {
		args         string
		code         int
		stdout, word string
	}{
		{"list", 0, "NAME   INSTANCES  PATH\nnotes  -          /state/notes\nother  -          /state/other\nused   inst-1     /state/used\n", ""},
		{"rm", 2, "", "no name"},
		{"rm notes nosuch", 1, "Workspace notes deleted\n", "nosuch"},
		{"prune extra", 2, "", "extra"},
		{"prune --dry-run", 0, "Workspace other would be deleted\n", ""},
		{"prune", 0, "Workspace other deleted\n", ""},
		{"prune", 0, "", ""},
		{"list", 0, "NAME  INSTANCES  PATH\nused  inst-1     /state/used\n", ""},
	} {
		code, stdout, stderr := aegis(t, append([]string{"workspace"}, strings.Fields(c.args)...)...)
		if code != c.code || stdout != c.stdout || !strings.Contains(stderr, c.word) {
			t.Errorf("%s: exit %d, %q, %q; expected %d, %q, %q", c.args, code, stdout, stderr, c.code, c.stdout, c.word)
		}
	}
	for args, want := range map[string][]string{
		"workspace rm ":     {"used"},
		"run --workspace ":  {"used", "auto"},
		"run --workspace u": {"used"},
	} {
		if diff := cmp.Diff(want, completed(t, strings.Split(args, " ")...)); diff != "" {
			t.Errorf("completing %q: %s", args, diff)
		}
	}
}
