package instance

import (
	"context"
	"slices"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/router"
)

// A port is opened before the record says so and closed after it says so no
// more: what a crash leaves open between the two belongs to nobody, and
// keepPorts closes it.

// Expose implements api.Aegis.
func (s *Service) Expose(ctx context.Context, ref string, e api.Expose) (api.Endpoint, error) {
	e = e.WithDefaults()
	if err := checkExpose(e); err != nil {
		return api.Endpoint{}, err
	}
	o, err := s.find(ref)
	if err != nil {
		return api.Endpoint{}, err
	}
	defer s.settle(o.id)()
	if err := o.ask(ctx, func() error { return o.mayExpose(e) }); err != nil {
		return api.Endpoint{}, atBoundary(err)
	}
	open, err := s.openPort(ctx, o.id, o.view.Load().Handle, e)
	if err != nil {
		return api.Endpoint{}, atBoundary(err)
	}
	err = o.ask(ctx, func() error { return o.onExposed(e, open) })
	if err != nil {
		s.nudgePorts() // to close it again, unless it was there before
		return api.Endpoint{}, atBoundary(err)
	}
	if !o.view.Load().Enabled {
		o.switchPorts(ctx, false)
	}
	return open, nil
}

// mayExpose refuses what the record could not say.
func (o *owner) mayExpose(e api.Expose) error {
	if o.removing {
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	}
	if err := checkAble(o.rec.Spec); err != nil {
		return err // nothing could be behind the port
	}
	_, err := o.exposing(e)
	return err
}

// exposing is the spec with one more port, or as it is if it has that.
func (o *owner) exposing(e api.Expose) (api.InstanceSpec, error) {
	spec := o.rec.Spec
	for _, have := range spec.Exposes {
		have = have.WithDefaults()
		if have.GuestPort == e.GuestPort && (have.Protocol == api.ProtocolUDP) == (e.Protocol == api.ProtocolUDP) {
			return spec, nil // the router knows whether it is the same
		}
	}
	spec.Exposes = append(slices.Clone(spec.Exposes), e)
	return spec, checkExposes(spec)
}

func (o *owner) onExposed(e api.Expose, open api.Endpoint) error {
	if o.removing {
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	}
	spec, err := o.exposing(e)
	if err != nil {
		return err
	}
	if len(spec.Exposes) > len(o.rec.Spec.Exposes) {
		if err := o.revise(spec); err != nil {
			return err
		}
	}
	if !slices.Contains(o.endpoints, open) {
		o.setEndpoints(append(slices.Clone(o.endpoints), open))
		o.emit(api.EventChanged, "exposes "+open.URL)
	}
	return nil
}

// Unexpose implements api.Aegis.
func (s *Service) Unexpose(ctx context.Context, ref string, guestPort int, protocol api.Protocol) error {
	switch {
	case guestPort < 1 || guestPort > 65535:
		return invalid("port %d: expected 1 to 65535", guestPort)
	case protocol != "" && !protocol.Known():
		return invalid("protocol %q: expected http, tcp or udp", shorten(string(protocol)))
	}
	o, err := s.find(ref)
	if err != nil {
		return err
	}
	defer s.settle(o.id)()
	if err := o.ask(ctx, func() error { return o.onUnexpose(guestPort, protocol) }); err != nil {
		return atBoundary(err)
	}
	err = s.Router.Unexpose(ctx, o.id, guestPort, protocol)
	if err != nil && api.CodeOf(err) != api.NotFound {
		s.nudgePorts()
		return atBoundary(err)
	}
	return nil
}

func (o *owner) onUnexpose(guestPort int, protocol api.Protocol) error {
	meant := func(port int, p api.Protocol) bool {
		return port == guestPort && (protocol == "" || (p == api.ProtocolUDP) == (protocol == api.ProtocolUDP))
	}
	spec := o.rec.Spec
	spec.Exposes = slices.DeleteFunc(slices.Clone(spec.Exposes), func(e api.Expose) bool { return meant(e.GuestPort, e.Protocol) })
	if len(spec.Exposes) == len(o.rec.Spec.Exposes) {
		return api.Errorf(api.NotFound, "instance %s does not expose port %d: see `aegis instance info %s`", o.id, guestPort, o.id)
	}
	if err := o.revise(spec); err != nil {
		return err
	}
	o.setEndpoints(slices.DeleteFunc(slices.Clone(o.endpoints), func(e api.Endpoint) bool { return meant(e.GuestPort, e.Protocol) }))
	o.emit(api.EventChanged, "a port is exposed no more")
	return nil
}

// setEndpoints shows what the router has. The slice is nobody else's.
func (o *owner) setEndpoints(all []api.Endpoint) {
	o.endpoints = all
	o.publish()
}

// openPort has the router open a port.
func (s *Service) openPort(ctx context.Context, id, handle string, e api.Expose) (api.Endpoint, error) {
	if s.Router == nil {
		return api.Endpoint{}, api.Errorf(api.Unavailable, "exposes (--expose): this aegisd has no router")
	}
	open, err := s.Router.Expose(ctx, router.Port{Instance: id, Handle: handle, Expose: e})
	if err != nil {
		return api.Endpoint{}, err
	}
	return endpointOf(open), nil
}

func endpointOf(e router.Endpoint) api.Endpoint {
	return api.Endpoint{
		GuestPort: e.GuestPort, PublicPort: e.ActualPort, Protocol: e.Protocol, Bind: e.Bind, Trouble: e.Trouble,
	}.WithURL()
}

// insertWithPorts opens the ports of a new instance, then commits its record:
// one that is taken is known before there is anything. One whose start is
// refused has its ports in its record alone.
func (s *Service) insertWithPorts(ctx context.Context, rec store.Record) (*owner, error) {
	if len(rec.Spec.Exposes) == 0 || checkAble(rec.Spec) != nil {
		return s.insert(ctx, rec, nil)
	}
	defer s.settle(rec.ID)()
	var all []api.Endpoint
	var err error
	for _, e := range rec.Spec.Exposes {
		var open api.Endpoint
		if open, err = s.openPort(ctx, rec.ID, rec.Spec.Handle, e.WithDefaults()); err != nil {
			break
		}
		all = append(all, open)
	}
	var o *owner
	if err == nil {
		o, err = s.insert(ctx, rec, all)
	}
	if err != nil {
		s.forgetPorts(rec.ID)
	}
	return o, err
}

// forgetPorts closes all ports of an instance that is not, or has this done.
func (s *Service) forgetPorts(id string) {
	if s.Router == nil {
		return
	}
	ctx, cancel := s.bounded()
	defer cancel()
	if err := s.Router.Forget(ctx, id); err != nil {
		s.Log.Warn("ports not closed", "instance", id, "error", err)
		s.nudgePorts()
	}
}

// closePorts closes the ports of an instance that goes. A router that is away
// does not keep it: keepPorts closes what nobody has.
func (o *owner) closePorts() {
	if len(o.view.Load().Endpoints) > 0 {
		o.svc.forgetPorts(o.id)
	}
}

// switchPorts closes the ports of a disabled instance, or opens them again; if
// not at once then soon.
func (o *owner) switchPorts(ctx context.Context, on bool) {
	if o.svc.Router == nil || len(o.view.Load().Endpoints) == 0 {
		return
	}
	if err := o.svc.Router.Switch(ctx, o.id, on); err != nil {
		o.svc.Log.Warn("ports not switched", "instance", o.id, "on", on, "error", err)
		o.svc.nudgePorts()
	}
}
