package aegisbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// workspaceMethods are the root's methods of api.Workspaces.
func (s *Server) workspaceMethods() bus.Methods {
	return bus.Methods{
		"ListWorkspaces": func(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
			all, err := s.aegis.Workspaces(ctx)
			return bus.ToDicts(all, err)
		},
		"RemoveWorkspace": func(ctx context.Context, r *bus.Request, name string) error {
			who, err := r.Caller(ctx)
			if err != nil {
				return err
			}
			return s.aegis.RemoveWorkspace(ctx, who, name)
		},
		"PruneWorkspaces": func(ctx context.Context, r *bus.Request, dry bool) ([]bus.Dict, error) {
			who, err := r.Caller(ctx)
			if err != nil {
				return nil, err
			}
			all, err := s.aegis.PruneWorkspaces(ctx, who, dry)
			return bus.ToDicts(all, err)
		},
	}
}

// Workspaces implements api.Aegis.
func (c *Client) Workspaces(ctx context.Context) ([]api.Workspace, error) {
	return list[api.Workspace](ctx, c, "ListWorkspaces")
}

// RemoveWorkspace implements api.Aegis. The caller is known to the server.
func (c *Client) RemoveWorkspace(ctx context.Context, _ api.Caller, name string) error {
	return c.call(ctx, "RemoveWorkspace", bus.Args{name})
}

// PruneWorkspaces implements api.Aegis. The caller is known to the server.
func (c *Client) PruneWorkspaces(ctx context.Context, _ api.Caller, dryRun bool) ([]api.Workspace, error) {
	return list[api.Workspace](ctx, c, "PruneWorkspaces", dryRun)
}
