package aegisbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// portMethods are the root's methods of api.Ports.
func (s *Server) portMethods() bus.Methods {
	return bus.Methods{
		"ExposePort": func(ctx context.Context, _ *bus.Request, ref string, expose bus.Dict) (bus.Dict, error) {
			var e api.Expose
			if err := bus.FromDictStrict(expose, &e); err != nil {
				return nil, api.Errorf(api.InvalidArgument, "exposing a port: %w", err)
			}
			open, err := s.aegis.Expose(ctx, ref, e)
			return dict(open, err)
		},
		"UnexposePort": func(ctx context.Context, _ *bus.Request, ref string, guest int32, protocol string) error {
			return s.aegis.Unexpose(ctx, ref, int(guest), api.Protocol(protocol))
		},
	}
}

// Expose implements api.Aegis.
func (c *Client) Expose(ctx context.Context, ref string, e api.Expose) (open api.Endpoint, err error) {
	expose, err := bus.ToDict(e)
	if err != nil {
		return open, err
	}
	var d bus.Dict
	if err := c.call(ctx, "ExposePort", bus.Args{ref, expose}, &d); err != nil {
		return open, err
	}
	return open, fromDict(d, &open)
}

// Unexpose implements api.Aegis.
func (c *Client) Unexpose(ctx context.Context, ref string, guestPort int, protocol api.Protocol) error {
	return c.call(ctx, "UnexposePort", bus.Args{ref, int32(guestPort), string(protocol)})
}
