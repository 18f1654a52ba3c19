package instance

import (
	"context"
	"os"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/workspaces"
)

// workspaceFor finds the workspace of an instance for somebody who wants to
// see into it.
func (s *Service) workspaceFor(who api.Caller, ref string) (workspaces.Place, error) {
	o, err := s.find(ref)
	if err != nil {
		return workspaces.Place{}, err
	}
	in := o.view.Load()
	switch {
	case who.UID != 0 && who.UID != in.OwnerUID:
		return workspaces.Place{}, api.Errorf(api.Denied, "instance %q is uid %d's: only they see its files", ref, in.OwnerUID)
	case in.Workspace == "":
		return workspaces.Place{}, api.Errorf(api.NotFound, "instance %q has no workspace: start one with --workspace", ref)
	case s.Config.Workspaces == nil:
		return workspaces.Place{}, errNoWorkspaces()
	}
	return workspaces.PlaceOf(in.OwnerUID, in.Workspace, in.ID), nil
}

// Tree implements api.Aegis.
func (s *Service) Tree(ctx context.Context, who api.Caller, ref, path string) ([]api.FileEntry, error) {
	p, err := s.workspaceFor(who, ref)
	if err != nil {
		return nil, err
	}
	all, err := s.Config.Workspaces.Tree(ctx, p, path)
	return all, atBoundary(err)
}

// ReadFile implements api.Aegis.
func (s *Service) ReadFile(ctx context.Context, who api.Caller, ref, path string) (*os.File, error) {
	p, err := s.workspaceFor(who, ref)
	if err != nil {
		return nil, err
	}
	f, err := s.Config.Workspaces.Read(ctx, p, path)
	return f, atBoundary(err)
}

// WriteFile implements api.Aegis.
func (s *Service) WriteFile(ctx context.Context, who api.Caller, ref, path string, data *os.File) error {
	p, err := s.workspaceFor(who, ref)
	if err != nil {
		return err
	}
	return atBoundary(s.Config.Workspaces.Write(ctx, p, path, data))
}

// PutBlob implements api.Aegis.
func (s *Service) PutBlob(ctx context.Context, who api.Caller, ref, mediaType string, data *os.File) (api.Blob, error) {
	p, err := s.workspaceFor(who, ref)
	if err != nil {
		return api.Blob{}, err
	}
	blob, err := s.Config.Workspaces.Put(ctx, p, mediaType, data)
	return blob, atBoundary(err)
}
