package restapi

import (
	"context"
	"net/http"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

func (s *Server) rejoin(w http.ResponseWriter, r *http.Request) {
	s.upgrade(w, r, func(ctx context.Context, ref string) (*api.Streams, error) {
		session, err := s.aegis.Rejoin(ctx, ref)
		return &api.Streams{Session: session}, err
	})
}

// Rejoin implements api.Aegis.
func (c *Client) Rejoin(ctx context.Context, ref string) (*os.File, error) {
	streams, err := c.streams(ctx, instance(ref, "/rejoin"))
	if err != nil {
		return nil, err
	}
	session := streams.Session
	streams.Session = nil
	streams.Close() // there are no others
	if err := api.TakeSession(session); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}
