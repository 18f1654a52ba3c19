package aegisbus

import (
	"context"
	"encoding/json"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// copyMethods are the root's methods of copies.
func (s *Server) copyMethods() bus.Methods {
	return bus.Methods{"CopyFromInstance": s.copyFrom, "CopyToInstance": s.copyTo}
}

func (s *Server) copyFrom(ctx context.Context, r *bus.Request, ref, text string) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
	var spec api.CopyFromSpec
	var streams *api.Streams
	if err = decodeStrictly(text, &spec); err == nil {
		streams, err = s.streamsWhile(ctx, r, func(ctx context.Context) (*api.Streams, error) { return s.aegis.CopyFrom(ctx, ref, spec) })
	}
	return send(r, streams, err)
}

func (s *Server) copyTo(ctx context.Context, r *bus.Request, ref, text string) (which uint32, in, out, errs, status, session, tty dbus.UnixFD, err error) {
	var spec api.CopyToSpec
	var streams *api.Streams
	if err = decodeStrictly(text, &spec); err == nil {
		streams, err = s.streamsWhile(ctx, r, func(ctx context.Context) (*api.Streams, error) { return s.aegis.CopyTo(ctx, ref, spec) })
	}
	return send(r, streams, err)
}

// CopyFrom implements api.Aegis.
func (c *Client) CopyFrom(ctx context.Context, ref string, spec api.CopyFromSpec) (*api.Streams, error) {
	return c.copy(ctx, "CopyFromInstance", ref, spec)
}

// CopyTo implements api.Aegis.
func (c *Client) CopyTo(ctx context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	return c.copy(ctx, "CopyToInstance", ref, spec)
}

func (c *Client) copy(ctx context.Context, member, ref string, spec any) (*api.Streams, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "spec: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.streams(ctx, member, bus.Args{ref, string(text)})
}
