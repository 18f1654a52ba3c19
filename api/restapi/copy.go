package restapi

import (
	"context"
	"net/http"

	"github.com/xfeldman/aegisvm/api"
)

func (s *Server) copyFrom(w http.ResponseWriter, r *http.Request) {
	var spec api.CopyFromSpec
	if s.decode(w, r, &spec) {
		s.upgrade(w, r, func(ctx context.Context, ref string) (*api.Streams, error) { return s.aegis.CopyFrom(ctx, ref, spec) })
	}
}

func (s *Server) copyTo(w http.ResponseWriter, r *http.Request) {
	var spec api.CopyToSpec
	if s.decode(w, r, &spec) {
		s.upgrade(w, r, func(ctx context.Context, ref string) (*api.Streams, error) { return s.aegis.CopyTo(ctx, ref, spec) })
	}
}

// CopyFrom implements api.Aegis.
func (c *Client) CopyFrom(ctx context.Context, ref string, spec api.CopyFromSpec) (*api.Streams, error) {
	streams, _, err := c.ofProgram(ctx, instance(ref, "/copy-from"), spec)
	return streams, err
}

// CopyTo implements api.Aegis.
func (c *Client) CopyTo(ctx context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	streams, _, err := c.ofProgram(ctx, instance(ref, "/copy-to"), spec)
	return streams, err
}
