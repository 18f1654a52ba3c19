// Package routerbus carries router.Router over D-Bus: Serve exports one as
// org.aegisvm.Router1, and Client is one that calls it. Neither decides
// anything about ports.
package routerbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/router"
)

// Serve exports r on conn for root and the given users, claims the name and
// serves until ctx or the connection ends. ready is called when callers are
// served.
func Serve(ctx context.Context, conn *bus.Conn, r router.Router, uids []uint32, ready func() error) error {
	s := &server{router: r}
	root, err := conn.Export(bus.RouterPath, bus.Interface{
		Name: bus.RouterManager, Allow: bus.AllowUIDs(uids...), Methods: s.methods(),
		Properties: bus.Properties{"Version": api.Version},
	})
	if err != nil {
		return err
	}
	defer root.Unexport()
	changes, err := r.Watch(ctx)
	if err != nil {
		return err
	}
	if err := conn.Claim(ctx, bus.RouterName); err != nil {
		return err
	}
	if err := ready(); err != nil {
		return err
	}
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return ctx.Err()
			}
			if err := root.Emit(bus.RouterManager, "PortsChanged"); err != nil {
				return err
			}
		case <-conn.Done():
			return api.Errorf(api.Unavailable, "the connection to the message bus is lost")
		}
	}
}

type server struct{ router router.Router }

func (s *server) methods() bus.Methods {
	return bus.Methods{
		"Expose": s.expose,
		"Unexpose": func(ctx context.Context, _ *bus.Request, instance string, guest uint16, protocol string) error {
			return s.router.Unexpose(ctx, instance, int(guest), api.Protocol(protocol))
		},
		"Switch": func(ctx context.Context, _ *bus.Request, instance string, on bool) error {
			return s.router.Switch(ctx, instance, on)
		},
		"Forget": func(ctx context.Context, _ *bus.Request, instance string) error {
			return s.router.Forget(ctx, instance)
		},
		"List": s.list,
		"Front": func(ctx context.Context, _ *bus.Request) (bus.Dict, error) {
			f, err := s.router.Front(ctx)
			if err != nil {
				return nil, err
			}
			return bus.ToDict(f)
		},
	}
}

func (s *server) expose(ctx context.Context, _ *bus.Request, d bus.Dict) (bus.Dict, error) {
	var p router.Port
	if err := bus.FromDictStrict(d, &p); err != nil {
		return nil, api.Errorf(api.InvalidArgument, "exposing a port: %w", err)
	}
	e, err := s.router.Expose(ctx, p)
	if err != nil {
		return nil, err
	}
	return bus.ToDict(e)
}

func (s *server) list(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	all, err := s.router.List(ctx)
	return bus.ToDicts(all, err)
}
