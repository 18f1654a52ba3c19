package restapi

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// renameRequest is the body of POST …/rename.
type renameRequest struct {
	Handle string `json:"handle"`
}

// pruned is the answer of POST /v1/instances/prune.
type pruned struct {
	Pruned int      `json:"pruned"`
	IDs    []string `json:"ids"`
}

// lifeRoutes are the endpoints of api.Life.
func (s *Server) lifeRoutes() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"POST /v1/instances/{id}/restart":   s.verb("restarting", api.Aegis.Restart),
		"POST /v1/instances/{id}/enable":    s.verb("enabled", api.Aegis.Enable),
		"POST /v1/instances/{id}/disable":   s.verb("disabled", api.Aegis.Disable),
		"POST /v1/instances/{id}/pause":     s.verb("paused", api.Aegis.Pause),
		"POST /v1/instances/{id}/hibernate": s.verb("hibernated", api.Aegis.Hibernate),
		"POST /v1/instances/{id}/resume":    s.verb("running", api.Aegis.Resume),
		"PUT /v1/instances/{id}/lease":      s.keepalive,
		"DELETE /v1/instances/{id}/lease":   s.verb("released", api.Aegis.Release),
		"POST /v1/instances/{id}/rename":    s.rename,
		"GET /v1/instances/{id}/wait":       s.wait,
		"POST /v1/instances/prune":          s.prune,
	}
}

// verb answers a call that takes nothing but the instance.
func (s *Server) verb(status string, call func(api.Aegis, context.Context, string) (api.Instance, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, err := call(s.aegis, r.Context(), r.PathValue("id"))
		s.reply(w, http.StatusOK, answer{status, &in}, err)
	}
}

// createdOrStarted is the status of a Create: 200 where it was the start of an
// instance that was there.
func createdOrStarted(in api.Instance) int {
	if in.Starts > 1 {
		return http.StatusOK
	}
	return http.StatusCreated
}

func (s *Server) rename(w http.ResponseWriter, r *http.Request) {
	var req renameRequest
	if !s.decode(w, r, &req) {
		return
	}
	in, err := s.aegis.Rename(r.Context(), r.PathValue("id"), req.Handle)
	s.reply(w, http.StatusOK, answer{"renamed", &in}, err)
}

func (s *Server) keepalive(w http.ResponseWriter, r *http.Request) {
	var lease api.Lease
	if !s.decode(w, r, &lease) {
		return
	}
	in, err := s.aegis.Keepalive(r.Context(), r.PathValue("id"), lease)
	s.reply(w, http.StatusOK, answer{"kept", &in}, err)
}

func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	until := cmp.Or(api.Until(r.URL.Query().Get("until")), api.UntilStopped)
	in, err := s.aegis.Wait(r.Context(), r.PathValue("id"), until)
	s.reply(w, http.StatusOK, in, err)
}

func (s *Server) prune(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("older_than")
	if text == "" {
		s.fail(w, api.Errorf(api.InvalidArgument, "older_than is missing: expected a length of time such as 90m, 24h or 7d"))
		return
	}
	age, err := api.ParseAge(text)
	if err != nil {
		s.fail(w, err)
		return
	}
	dry, err := dryRun(r)
	if err != nil {
		s.fail(w, err)
		return
	}
	ids, err := s.aegis.Prune(r.Context(), age, dry)
	s.reply(w, http.StatusOK, pruned{len(ids), append([]string{}, ids...)}, err)
}

// dryRun reads the query dry_run; one that is missing is false.
func dryRun(r *http.Request) (bool, error) {
	text := r.URL.Query().Get("dry_run")
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, api.Errorf(api.InvalidArgument, "dry_run %q: expected true or false", text)
	}
	return on, nil
}

// Restart implements api.Aegis.
func (c *Client) Restart(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/restart"), nil, &in)
}

// Enable implements api.Aegis.
func (c *Client) Enable(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/enable"), nil, &in)
}

// Disable implements api.Aegis.
func (c *Client) Disable(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/disable"), nil, &in)
}

// Pause implements api.Aegis.
func (c *Client) Pause(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/pause"), nil, &in)
}

// Hibernate implements api.Aegis.
func (c *Client) Hibernate(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/hibernate"), nil, &in)
}

// Resume implements api.Aegis.
func (c *Client) Resume(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/resume"), nil, &in)
}

// Keepalive implements api.Aegis.
func (c *Client) Keepalive(ctx context.Context, ref string, lease api.Lease) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPut, instance(ref, "/lease"), lease, &in)
}

// Release implements api.Aegis.
func (c *Client) Release(ctx context.Context, ref string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodDelete, instance(ref, "/lease"), nil, &in)
}

// Rename implements api.Aegis.
func (c *Client) Rename(ctx context.Context, ref, handle string) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodPost, instance(ref, "/rename"), renameRequest{handle}, &in)
}

// Wait implements api.Aegis.
func (c *Client) Wait(ctx context.Context, ref string, until api.Until) (in api.Instance, err error) {
	return in, c.call(ctx, http.MethodGet, instance(ref, "/wait?until="+url.QueryEscape(string(until))), nil, &in)
}

// Prune implements api.Aegis.
func (c *Client) Prune(ctx context.Context, olderThan time.Duration, dry bool) ([]string, error) {
	query := url.Values{"older_than": {olderThan.String()}, "dry_run": {strconv.FormatBool(dry)}}
	var out pruned
	err := c.call(ctx, http.MethodPost, "/v1/instances/prune?"+query.Encode(), nil, &out)
	return out.IDs, err
}
