package restapi

import (
	"context"
	"net/http"

	"github.com/xfeldman/aegisvm/api"
)

func (s *Server) networkState(w http.ResponseWriter, r *http.Request) {
	state, err := s.aegis.NetworkState(r.Context(), r.PathValue("id"))
	s.reply(w, http.StatusOK, state, err)
}

func (s *Server) setNetworkPolicy(w http.ResponseWriter, r *http.Request) {
	var p api.NetworkPolicy
	if !s.decode(w, r, &p) {
		return
	}
	state, err := s.aegis.SetNetworkPolicy(r.Context(), r.PathValue("id"), p)
	s.reply(w, http.StatusOK, state, err)
}

// NetworkState implements api.Aegis.
func (c *Client) NetworkState(ctx context.Context, ref string) (state api.NetworkState, err error) {
	return state, c.call(ctx, http.MethodGet, instance(ref, "/network"), nil, &state)
}

// SetNetworkPolicy implements api.Aegis.
func (c *Client) SetNetworkPolicy(ctx context.Context, ref string, p api.NetworkPolicy) (state api.NetworkState, err error) {
	return state, c.call(ctx, http.MethodPut, instance(ref, "/network"), p, &state)
}
