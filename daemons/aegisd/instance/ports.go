package instance

import (
	"context"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
)

// settle says that the ports of an instance are being changed, until the
// returned function is called: nobody is to take them for wrong meanwhile.
func (s *Service) settle(id string) (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settling[id]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.settling[id]--; s.settling[id] == 0 {
			delete(s.settling, id)
		}
	}
}

// nudgePorts has the ports compared with the records soon.
func (s *Service) nudgePorts() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// keepPorts makes the router's ports those of the records, at first and
// whenever either may have changed, until the service closes.
func (s *Service) keepPorts() {
	const shortest, longest = 50 * time.Millisecond, 5 * time.Second
	for backoff := shortest; ; backoff = min(2*backoff, longest) {
		err := s.followPorts(func() { backoff = shortest })
		if s.ctx.Err() != nil {
			return
		}
		if s.anyExposed() {
			s.Log.Warn("cannot follow the exposed ports", "error", err)
		}
		if !pause(s.ctx, backoff) {
			return
		}
	}
}

// firstPorts is how long a start of aegisd may wait for the router.
const firstPorts = 5 * time.Second

// knowPorts makes the ports known before anybody asks for them. A router that
// is not there is waited for later.
func (s *Service) knowPorts(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstPorts)
	defer cancel()
	if err := s.comparePorts(ctx); err != nil && s.anyExposed() {
		s.Log.Warn("the exposed ports are not known yet", "error", err)
	}
}

// followPorts returns when the router fails or is gone.
func (s *Service) followPorts(went func()) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	changes, err := s.Router.Watch(ctx)
	if err != nil {
		return err
	}
	for {
		select {
		case _, ok := <-changes:
			if !ok {
				return api.Errorf(api.Unavailable, "the router is gone")
			}
		case <-s.nudge:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.comparePorts(ctx); err != nil {
			return err
		}
		went()
	}
}

// frontStatus tells where the HTTP front is, or why it is not open.
func (s *Service) frontStatus(ctx context.Context) (address, note string) {
	if s.Router == nil {
		return "", "this aegisd has no router"
	}
	f, err := s.Router.Front(ctx)
	if err != nil {
		return "", err.Error()
	}
	return f.Address, f.Trouble
}

func (s *Service) anyExposed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		if len(offered(o.view.Load())) > 0 {
			return true
		}
	}
	return false
}

// comparePorts makes the router's ports those of the records.
func (s *Service) comparePorts(ctx context.Context) error {
	all, err := s.Router.List(ctx)
	if err != nil {
		return err
	}
	have := map[string][]router.Endpoint{}
	for _, e := range all {
		have[e.Instance] = append(have[e.Instance], e)
	}
	owners := map[string]*owner{}
	s.mu.Lock()
	for id, o := range s.owners {
		owners[id] = o
	}
	for id := range s.settling {
		delete(owners, id)
		delete(have, id)
	}
	s.mu.Unlock()
	for id := range have {
		if owners[id] == nil {
			s.Log.Warn("closing the ports of an instance that is not there", "instance", id)
			if err := s.Router.Forget(ctx, id); err != nil {
				return err
			}
		}
	}
	for id, o := range owners {
		err := s.compareOwner(ctx, o, have[id])
		if err != nil && !o.isGone() { // one that was deleted meanwhile has no ports
			return err
		}
	}
	return nil
}

// compareOwner does so for one instance, and shows what it has.
func (s *Service) compareOwner(ctx context.Context, o *owner, have []router.Endpoint) error {
	in := o.view.Load()
	wanted := offered(in)
	if len(have) == 0 && len(wanted) == 0 && len(in.Endpoints) == 0 {
		return nil
	}
	endpoints := []api.Endpoint{}
	for _, e := range wanted {
		found, err := s.wantedPort(ctx, in, e, have)
		if err != nil {
			return err
		}
		endpoints = append(endpoints, found)
	}
	for _, e := range have {
		if !slices.ContainsFunc(wanted, func(w api.Expose) bool { return samePort(w, e.Expose) }) {
			err := s.Router.Unexpose(ctx, in.ID, e.GuestPort, e.Protocol)
			if err != nil && api.CodeOf(err) != api.NotFound {
				return err
			}
		}
	}
	return o.ask(ctx, func() error {
		if !slices.Equal(o.endpoints, endpoints) {
			o.setEndpoints(endpoints)
			o.emit(api.EventChanged, "its ports changed")
		}
		return nil
	})
}

// wantedPort is a port of a record as the router has it, now at the latest.
// One that cannot be had is told, and is tried again at the next change.
func (s *Service) wantedPort(ctx context.Context, in *api.Instance, want api.Expose, have []router.Endpoint) (api.Endpoint, error) {
	for _, e := range have {
		if !samePort(want, e.Expose) {
			continue
		}
		if e.Handle != in.Handle {
			if _, err := s.openPort(ctx, in.ID, in.Handle, want); err != nil {
				return endpointOf(e), err
			}
		}
		if e.On != in.Enabled {
			return endpointOf(e), s.Router.Switch(ctx, in.ID, in.Enabled)
		}
		return endpointOf(e), nil
	}
	open, err := s.openPort(ctx, in.ID, in.Handle, want)
	if code := api.CodeOf(err); code == api.Unavailable || code == api.Internal {
		return open, err
	}
	if err != nil {
		s.Log.Error("a port cannot be exposed", "instance", in.ID, "port", want.String(), "error", err)
		lost := api.Endpoint{GuestPort: want.GuestPort, PublicPort: want.PublicPort, Protocol: want.Protocol, Bind: want.Bind}
		lost.Trouble = oneLine(err.Error())
		return lost.WithURL(), nil
	}
	return open, nil
}

func samePort(a, b api.Expose) bool {
	return a.GuestPort == b.GuestPort && (a.Protocol == api.ProtocolUDP) == (b.Protocol == api.ProtocolUDP)
}
