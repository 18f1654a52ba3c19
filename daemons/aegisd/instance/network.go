package instance

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// checkNetwork refuses what is no network.
func checkNetwork(spec api.InstanceSpec) error {
	p, err := policyOf(spec.NetworkSpec)
	if err != nil {
		return err
	}
	if spec.Network == api.NetworkNone && (p.Deny || len(p.Allow) > 0) {
		return invalid("network none with an egress policy: leave one of them out")
	}
	return nil
}

// policyOf is what a spec allows.
func policyOf(spec api.NetworkSpec) (policy.Policy, error) {
	p, err := egressOf(spec.EgressPolicy)
	if err != nil {
		return p, err
	}
	ports, services := strings.CutPrefix(spec.Network, api.NetworkHost)
	switch {
	case services:
		if p.HostPorts, err = hostPorts(ports); err != nil {
			return p, err
		}
	case spec.Network != "" && spec.Network != api.NetworkNone && spec.Network != api.NetworkNAT:
		return p, invalid("network %q: expected none, nat or host-services=PORT[,PORT...]", shorten(spec.Network))
	}
	return p, p.Check()
}

func egressOf(e api.EgressPolicy) (p policy.Policy, err error) {
	p.Deny = e.DenyEgress
	for _, text := range e.AllowEgress {
		rule, err := policy.Parse(text)
		if err != nil {
			return p, err
		}
		p.Allow = append(p.Allow, rule)
	}
	return p, nil
}

func hostPorts(list string) (ports []uint16, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return nil, invalid("host-services port %q: expected numbers from 1 to 65535, separated by commas", shorten(text))
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

// networkOf is the network that a spec means on this host: none or nat.
func (s *Service) networkOf(spec api.NetworkSpec) string {
	if spec.Network == api.NetworkNone || spec.Network == "" && s.Config.Network == nil {
		return api.NetworkNone
	}
	return api.NetworkNAT
}

// tellNetwork tells what network instances get, and what is wrong with it.
func (s *Service) tellNetwork(ctx context.Context, st *api.Status) {
	if s.Config.Network == nil {
		st.Network, st.NetworkNote = api.NetworkNone, s.Config.NoNetwork
		return
	}
	st.Network = api.NetworkNAT
	support, err := s.Config.Network.Support(ctx)
	if err != nil {
		st.NetworkNote = err.Error()
		return
	}
	st.NetworkNote, st.NetworkKind, st.NetworkWhy = support.Missing, support.Kind, support.Why
}

// admitNetwork refuses a network that this host cannot give.
func (s *Service) admitNetwork(spec api.InstanceSpec) error {
	if s.Config.Network != nil || s.networkOf(spec.NetworkSpec) == api.NetworkNone && len(spec.AllowEgress) == 0 && !spec.DenyEgress {
		return nil
	}
	return api.Errorf(api.Unavailable, "network: this aegisd cannot give machines any: %s: say --network none", s.Config.NoNetwork)
}

// attach gives the machine of a boot its network, if it is to have one.
func (o *owner) attach(b *boot) error {
	if o.svc.networkOf(o.spec.NetworkSpec) == api.NetworkNone {
		return nil
	}
	if err := o.svc.admitNetwork(o.spec); err != nil {
		return err
	}
	p, err := policyOf(o.spec.NetworkSpec)
	if err != nil {
		return err
	}
	lease, err := o.svc.Config.Network.Attach(b.ctx, b.origin, p)
	if err != nil {
		return fmt.Errorf("making the network: %w", err)
	}
	b.lease = &lease
	return nil
}

// guestAddress is where the host reaches a boot's guest, if it has a link to it.
// Of a machine that an earlier aegisd has started it is asked; without it a
// guest is reached all the same.
func (s *Service) guestAddress(ctx context.Context, b *boot) netip.Addr {
	switch {
	case b.lease != nil:
		return onHost(*b.lease)
	case s.Config.Network == nil:
		return netip.Addr{}
	}
	all, err := s.Config.Network.List(ctx)
	if err != nil {
		s.Log.Warn("where a guest is cannot be told", "machine", b.machine, "error", err)
	}
	for _, l := range all {
		if l.Machine == b.origin {
			return onHost(l)
		}
	}
	return netip.Addr{}
}

// onHost is a guest's address where the host has a link to it. Without one it
// would be somebody else's, or nobody's.
func onHost(l netd.Lease) netip.Addr {
	if l.Link == "" {
		return netip.Addr{}
	}
	return l.Addr
}

// guestNetwork is what the guest is told of its network.
func (b *boot) guestNetwork() *proto.Network {
	if b.lease == nil {
		return nil
	}
	told := &proto.Network{Address: b.lease.Addr.AsSlice(), Gateway: b.lease.Gateway.AsSlice()}
	if b.lease.Resolver.IsValid() {
		told.Resolvers = [][]byte{b.lease.Resolver.AsSlice()}
	}
	return told
}

// detach takes the network of a machine that is gone.
func (o *owner) detach(ctx context.Context, machine string) error {
	if o.svc.Config.Network == nil {
		return nil
	}
	// The spec is the owner's; what an orphan had nobody knows.
	if in := o.view.Load(); in != nil && o.svc.networkOf(in.NetworkSpec) == api.NetworkNone {
		return nil
	}
	if err := o.svc.Config.Network.Detach(ctx, machine); err != nil {
		return fmt.Errorf("releasing the network of machine %s: %w", machine, err)
	}
	return nil
}

// sweepNetworks removes the networks of machines that are not there, beside all
// else: netd may take long to start, or never come up. One that resists is tried
// again at the next start.
func (s *Service) sweepNetworks(guests map[string]bool) {
	if s.Config.Network == nil {
		return
	}
	s.tasks.Go(func() {
		leases, err := s.Config.Network.List(s.ctx)
		if err != nil && s.ctx.Err() == nil {
			s.Log.Warn("networks cannot be listed", "error", err)
		}
		for _, l := range leases {
			if guests[l.Machine] || s.ownerOf(l.Machine) != nil {
				continue // it has one, or is a new one
			}
			s.Log.Warn("removing a network without a machine", "machine", l.Machine, "error", s.Config.Network.Detach(s.ctx, l.Machine))
		}
	})
}

// NetworkState implements api.Aegis.
func (s *Service) NetworkState(ctx context.Context, ref string) (state api.NetworkState, err error) {
	o, err := s.find(ref)
	if err != nil {
		return state, err
	}
	var machine string
	err = o.ask(ctx, func() error {
		machine = o.networkName()
		state, err = o.networkState()
		return err
	})
	if err != nil || machine == "" || state.Network == api.NetworkNone {
		return state, atBoundary(err)
	}
	now, err := s.Config.Network.Get(ctx, machine)
	switch {
	case api.CodeOf(err) == api.NotFound:
		return state, nil // it is not attached yet, or not any more
	case err != nil:
		return state, atBoundary(err)
	}
	withLease(&state, now)
	return state, nil
}

// networkName is that of the network that its guest has, empty for none. It
// stays while the instance has no machine.
func (o *owner) networkName() string {
	st := &o.rec.Status
	if o.boot == nil && st.Phase != api.PhaseHibernated {
		return ""
	}
	return firstOf(st.Sleep.Origin, st.Machine)
}

// networkState is what the spec says; the caller is the owner.
func (o *owner) networkState() (api.NetworkState, error) {
	p, err := policyOf(o.spec.NetworkSpec)
	return api.NetworkState{
		Network:       o.svc.networkOf(o.spec.NetworkSpec),
		NetworkPolicy: api.NetworkPolicy{HostServices: p.HostPorts, EgressPolicy: o.spec.EgressPolicy},
	}, err
}

func withLease(state *api.NetworkState, now netd.State) {
	state.Address, state.Gateway, state.Link = now.Addr.String(), now.Gateway.String(), now.Link
	for _, c := range now.Counters {
		state.Counters = append(state.Counters, api.NetworkCounter(c))
	}
}

// SetNetworkPolicy implements api.Aegis. The record comes first: a policy that
// was answered holds at the next start in any case.
func (s *Service) SetNetworkPolicy(ctx context.Context, ref string, p api.NetworkPolicy) (api.NetworkState, error) {
	o, err := s.find(ref)
	if err != nil {
		return api.NetworkState{}, err
	}
	if err := o.ask(ctx, func() error { return o.onNetworkPolicy(ctx, p) }); err != nil {
		return api.NetworkState{}, atBoundary(err)
	}
	return s.NetworkState(ctx, ref)
}

func (o *owner) onNetworkPolicy(ctx context.Context, given api.NetworkPolicy) error {
	spec := o.rec.Spec
	spec.Network, spec.EgressPolicy = api.NetworkNAT, given.EgressPolicy
	if len(given.HostServices) > 0 {
		spec.Network = api.NetworkHost + joinPorts(given.HostServices)
	}
	p, err := policyOf(spec.NetworkSpec)
	switch {
	case err != nil:
		return err
	case o.removing:
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.isStarting():
		return api.Errorf(api.BadState, "instance %s is starting and reads its policy: try again when it runs", o.id)
	case o.svc.networkOf(o.spec.NetworkSpec) == api.NetworkNone:
		return api.Errorf(api.BadState, "instance %s has no network: make one with --network nat", o.id)
	}
	if err := o.revise(spec); err != nil {
		return err
	}
	o.spec.NetworkSpec = spec.NetworkSpec // no boot reads it now
	o.publish()
	if machine := o.networkName(); machine != "" {
		return o.svc.Config.Network.SetPolicy(ctx, machine, p)
	}
	return nil
}

func joinPorts(ports []uint16) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}

// network is the name of the network of a boot, empty for none.
func (b *boot) network() string {
	if b.lease == nil {
		return ""
	}
	return b.origin
}
