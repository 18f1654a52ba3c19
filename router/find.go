package router

import (
	"context"
	"net"
	"strings"
	"sync"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/router/front"
)

var _ front.Instances = (*Service)(nil)

// Find implements front.Instances.
func (s *Service) Find(name string, guestPort int) (front.Target, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		return s.only(guestPort)
	}
	instance, err := s.named(name)
	if err != nil {
		return front.Target{}, err
	}
	p := s.lowest(instance, guestPort)
	switch {
	case p == nil && guestPort == 0:
		return front.Target{}, api.Errorf(api.NotFound, "instance %s exposes no port for http: `aegis instance expose %s PORT` does", name, name)
	case p == nil:
		return front.Target{}, api.Errorf(api.NotFound, "instance %s exposes no port %d for http: `aegis instance expose %s %d` does", name, guestPort, name, guestPort)
	case !p.On:
		return front.Target{}, api.Errorf(api.BadState, "instance %s is disabled: `aegis instance enable %s` has it reached again", name, name)
	}
	return front.Target{Instance: instance, Port: p.GuestPort}, nil
}

// only finds the one instance that can be meant by a request that names none.
func (s *Service) only(guestPort int) (front.Target, error) {
	found := ""
	for _, p := range s.ports {
		switch {
		case !p.fits(guestPort) || !p.On || p.Instance == found:
		case found != "":
			return front.Target{}, api.Errorf(api.InvalidArgument, "several instances expose ports: name one as NAME.localhost or in the header %s", front.InstanceHeader)
		default:
			found = p.Instance
		}
	}
	if found == "" {
		return front.Target{}, api.Errorf(api.Unavailable, "no active instance: none exposes a port for http")
	}
	return front.Target{Instance: found, Port: s.lowest(found, guestPort).GuestPort}, nil
}

// fits tells whether the front may lead to a port; 0 is any that speaks HTTP.
func (p *port) fits(guestPort int) bool {
	return p.Protocol == api.ProtocolHTTP && (guestPort == 0 || guestPort == p.GuestPort)
}

// lowest is the lowest port of an instance that fits, nil where none does.
func (s *Service) lowest(instance string, guestPort int) (found *port) {
	for _, p := range s.ports {
		if p.Instance == instance && p.fits(guestPort) && (found == nil || p.GuestPort < found.GuestPort) {
			found = p
		}
	}
	return found
}

// named finds an instance by its id or name. Names of hosts are the same in
// capitals; of two that differ in nothing else only the exact one is meant.
func (s *Service) named(name string) (instance string, err error) {
	alike := ""
	for id, b := range s.backends {
		switch {
		case id == name || b.handle == name:
			return id, nil
		case strings.EqualFold(id, name) || strings.EqualFold(b.handle, name):
			if alike != "" {
				return "", api.Errorf(api.InvalidArgument, "several instances are called %s but for capitals: name one in the header %s", name, front.InstanceHeader)
			}
			alike = id
		}
	}
	if alike == "" {
		return "", api.Errorf(api.NotFound, "no instance %q exposes a port: see `aegis instance list`", name)
	}
	return alike, nil
}

// Connect implements front.Instances.
func (s *Service) Connect(ctx context.Context, t front.Target) (net.Conn, error) {
	s.mu.Lock()
	p := s.lowest(t.Instance, t.Port)
	if p == nil || !p.On || s.ctx.Err() != nil {
		s.mu.Unlock()
		return nil, api.Errorf(api.Unavailable, "port %d of instance %s was closed", t.Port, t.Instance)
	}
	on, b, to := p.on, p.backend, p.Port
	s.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(on, func() { cancel(errClosed) })()
	guest, release, err := b.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	c := &carried{Stream: guest, release: release}
	c.stop = context.AfterFunc(on, func() { guest.Close() })
	return c, nil
}

var errClosed = api.Errorf(api.Unavailable, "the port was closed")

// carried is a connection to a program that counts as long as it is open.
type carried struct {
	forward.Stream
	stop    func() bool
	release func()
	once    sync.Once
}

// Close ends it.
func (c *carried) Close() error {
	err := c.Stream.Close()
	c.once.Do(func() {
		c.stop()
		c.release()
	})
	return err
}
