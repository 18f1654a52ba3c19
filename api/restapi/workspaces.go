package restapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/xfeldman/aegisvm/api"
)

func (s *Server) workspaces(w http.ResponseWriter, r *http.Request) {
	all, err := s.aegis.Workspaces(r.Context())
	s.reply(w, http.StatusOK, append([]api.Workspace{}, all...), err)
}

func (s *Server) removeWorkspace(w http.ResponseWriter, r *http.Request) {
	err := s.aegis.RemoveWorkspace(r.Context(), callerOf(r.Context()), r.PathValue("name"))
	s.reply(w, http.StatusOK, done{"deleted"}, err)
}

func (s *Server) pruneWorkspaces(w http.ResponseWriter, r *http.Request) {
	dry, err := dryRun(r)
	if err != nil {
		s.fail(w, err)
		return
	}
	all, err := s.aegis.PruneWorkspaces(r.Context(), callerOf(r.Context()), dry)
	s.reply(w, http.StatusOK, append([]api.Workspace{}, all...), err)
}

// Workspaces implements api.Aegis.
func (c *Client) Workspaces(ctx context.Context) (all []api.Workspace, err error) {
	return all, c.call(ctx, http.MethodGet, "/v1/workspaces", nil, &all)
}

// RemoveWorkspace implements api.Aegis. The caller is known to the server.
func (c *Client) RemoveWorkspace(ctx context.Context, _ api.Caller, name string) error {
	return c.call(ctx, http.MethodDelete, "/v1/workspaces/"+url.PathEscape(name), nil, nil)
}

// PruneWorkspaces implements api.Aegis. The caller is known to the server.
func (c *Client) PruneWorkspaces(ctx context.Context, _ api.Caller, dryRun bool) (all []api.Workspace, err error) {
	query := url.Values{"dry_run": {strconv.FormatBool(dryRun)}}
	return all, c.call(ctx, http.MethodPost, "/v1/workspaces/prune?"+query.Encode(), nil, &all)
}
