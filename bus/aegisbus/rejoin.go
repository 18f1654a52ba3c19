package aegisbus

import (
	"context"
	"os"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

func (s *Server) rejoin(ctx context.Context, r *bus.Request, ref string) (dbus.UnixFD, error) {
	session, err := s.aegis.Rejoin(ctx, ref)
	if err != nil {
		return -1, err
	}
	return r.Send(session), nil
}

// Rejoin implements api.Aegis.
func (c *Client) Rejoin(ctx context.Context, ref string) (*os.File, error) {
	var session *os.File
	if err := c.call(ctx, "RejoinInstance", bus.Args{ref}, &session); err != nil {
		return nil, err
	}
	if err := api.TakeSession(session); err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}
