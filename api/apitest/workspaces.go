package apitest

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func workspaces() map[string]func(suite) {
	return map[string]func(suite){
		"workspaces are made, listed, kept while used, removed": suite.workspaceLife,
		"unused workspaces are pruned":                          suite.workspacePrune,
		"a workspace of its own goes with its instance":         suite.workspaceAuto,
		"a workspace that cannot be is refused":                 suite.workspaceRefusals,
	}
}

// working starts an instance with a workspace.
func (s suite) working(workspace string) api.Instance {
	s.Helper()
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, Workspace: workspace})
	in = s.awaitPhase(in.ID, api.PhaseRunning)
	if in.Workspace != workspace {
		s.Errorf("workspace %q, expected %q", in.Workspace, workspace)
	}
	return in
}

// wantWorkspaces compares names and users with NAME:ID,ID.
func (s suite) wantWorkspaces(what string, all []api.Workspace, err error, want ...string) {
	s.Helper()
	var got []string
	for _, w := range all {
		got = append(got, w.Name+":"+strings.Join(w.Instances, ","))
		if w.OwnerUID != uint32(os.Getuid()) || !filepath.IsAbs(w.Path) || w.ModifiedAt.IsZero() {
			s.Errorf("%s: %+v", what, w)
		}
	}
	if err != nil || !cmp.Equal(want, got) {
		s.Errorf("%s: %v, %s", what, err, cmp.Diff(want, got))
	}
}

func (s suite) wantListed(what string, want ...string) {
	s.Helper()
	all, err := s.Workspaces(s.Context())
	s.wantWorkspaces(what, all, err, want...)
}

func (s suite) workspaceLife() {
	me := api.Caller{UID: uint32(os.Getuid())}
	s.wantListed("at first")
	first, second := s.working("notes"), s.working("notes")
	s.wantListed("two share it", "notes:"+first.ID+","+second.ID)
	if err := s.Delete(s.Context(), second.ID); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Stop(s.Context(), first.ID); err != nil {
		s.Fatal(err)
	}
	s.wantListed("one at rest has it", "notes:"+first.ID)
	s.wantCode("removing it", s.RemoveWorkspace(s.Context(), me, "notes"), api.BadState)
	if err := s.Delete(s.Context(), first.ID); err != nil {
		s.Fatal(err)
	}
	s.wantListed("without instances", "notes:")
	if err := s.RemoveWorkspace(s.Context(), me, "notes"); err != nil {
		s.Error(err)
	}
	s.wantCode("removing it again", s.RemoveWorkspace(s.Context(), me, "notes"), api.NotFound)
	s.wantCode("removing what is no name", s.RemoveWorkspace(s.Context(), me, "a b"), api.InvalidArgument)
	s.wantListed("at last")
}

func (s suite) workspacePrune() {
	me := api.Caller{UID: uint32(os.Getuid())}
	used, unused := s.working("used"), s.working("unused")
	if err := s.Delete(s.Context(), unused.ID); err != nil {
		s.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		all, err := s.PruneWorkspaces(s.Context(), me, dry)
		s.wantWorkspaces("pruning", all, err, "unused:")
	}
	s.wantListed("after pruning", "used:"+used.ID)
	all, err := s.PruneWorkspaces(s.Context(), me, false)
	s.wantWorkspaces("pruning again", all, err)
}

func (s suite) workspaceAuto() {
	in := s.working("auto")
	s.wantListed("while it is there", in.ID+":"+in.ID)
	if err := s.Delete(s.Context(), in.ID); err != nil {
		s.Fatal(err)
	}
	s.wantListed("when it has gone")
}

func (s suite) workspaceRefusals() {
	dir := s.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		s.Fatal(err)
	}
	for ref, code := range map[string]api.Code{
		"..":                           api.InvalidArgument,
		"a b":                          api.InvalidArgument,
		"sub/folder":                   api.InvalidArgument,
		"-x":                           api.InvalidArgument,
		strings.Repeat("n", 64):        api.InvalidArgument,
		dir + "/":                      api.InvalidArgument,
		dir + "/../x":                  api.InvalidArgument,
		"/" + strings.Repeat("n", 4e3): api.InvalidArgument,
		file:                           api.InvalidArgument,
		filepath.Join(dir, "missing"):  api.NotFound,
		"/":                            api.Denied,
	} {
		_, err := s.Create(s.Context(), api.Caller{UID: uint32(os.Getuid())}, api.InstanceSpec{Command: []string{"sleep"}, Workspace: ref})
		s.wantCode(ref, err, code)
		if err != nil && strings.Contains(err.Error(), "\n") {
			s.Errorf("%q: a refusal of more than one line: %v", ref, err)
		}
	}
	s.wantListed("after refusals")
}
