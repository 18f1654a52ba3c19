package apitest

import (
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// network is of a service that can give machines networks.
func (s suite) network() {
	ctx := s.Context()
	egress := api.EgressPolicy{AllowEgress: []string{"internet", "192.168.1.10:5432", "*.example.com:443"}}
	in := s.create(api.InstanceSpec{
		Command: []string{"sleep"}, Handle: "web", NetworkSpec: api.NetworkSpec{Network: "host-services=8080,5432", EgressPolicy: egress},
	})
	s.awaitPhase("web", api.PhaseRunning)
	if diff := cmp.Diff(egress, in.EgressPolicy); diff != "" || in.Network != "host-services=8080,5432" {
		s.Errorf("the instance has %q: %s", in.Network, diff)
	}
	state, err := s.NetworkState(ctx, "web")
	if err != nil || state.Network != "nat" || state.Address == "" || state.Gateway == "" || state.Link == "" || len(state.Counters) == 0 {
		s.Fatalf("state: %+v, %v", state, err)
	}
	if diff := cmp.Diff(api.NetworkPolicy{HostServices: []uint16{8080, 5432}, EgressPolicy: egress}, state.NetworkPolicy); diff != "" {
		s.Errorf("policy: %s", diff)
	}
	for _, want := range []api.NetworkPolicy{
		{EgressPolicy: api.EgressPolicy{DenyEgress: true}},
		{HostServices: []uint16{1}, EgressPolicy: api.EgressPolicy{AllowEgress: []string{"203.0.113.0/24"}}},
		{},
	} {
		state, err := s.SetNetworkPolicy(ctx, "web", want)
		if diff := cmp.Diff(want, state.NetworkPolicy); err != nil || diff != "" || state.Address == "" {
			s.Errorf("setting %+v: %v %s", want, err, diff)
		}
	}
	s.networkRefusals()
	if _, err := s.Stop(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	want := api.NetworkPolicy{EgressPolicy: api.EgressPolicy{DenyEgress: true}}
	state, err = s.SetNetworkPolicy(ctx, "web", want)
	if diff := cmp.Diff(api.NetworkState{Network: "nat", NetworkPolicy: want}, state); err != nil || diff != "" {
		s.Errorf("at rest: %v %s", err, diff)
	}
}

func (s suite) networkRefusals() {
	ctx := s.Context()
	for _, rule := range []string{"", "2001:db8::1", "169.254.169.254", "10.0.0.1/8", "a b", "x:0"} {
		_, err := s.SetNetworkPolicy(ctx, "web", api.NetworkPolicy{EgressPolicy: api.EgressPolicy{AllowEgress: []string{rule}}})
		s.wantCode("a rule "+rule, err, api.InvalidArgument)
		_, err = s.Create(ctx, api.Caller{}, api.InstanceSpec{
			Command: []string{"sleep"}, NetworkSpec: api.NetworkSpec{EgressPolicy: api.EgressPolicy{AllowEgress: []string{rule}}},
		})
		s.wantCode("an instance with a rule "+rule, err, api.InvalidArgument)
	}
	for _, network := range []string{"bridge", "host-services=", "host-services=0", "host-services=80,", "host-services=65536", "NAT"} {
		_, err := s.Create(ctx, api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}, NetworkSpec: api.NetworkSpec{Network: network}})
		s.wantCode("a network "+network, err, api.InvalidArgument)
	}
	_, err := s.Create(ctx, api.Caller{}, api.InstanceSpec{
		Command: []string{"sleep"}, NetworkSpec: api.NetworkSpec{Network: "none", EgressPolicy: api.EgressPolicy{DenyEgress: true}},
	})
	s.wantCode("a policy without a network", err, api.InvalidArgument)
	s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "alone", NetworkSpec: api.NetworkSpec{Network: "none"}})
	s.awaitPhase("alone", api.PhaseRunning)
	if state, err := s.NetworkState(ctx, "alone"); err != nil || state.Network != "none" || state.Address != "" {
		s.Errorf("without a network: %+v, %v", state, err)
	}
	_, err = s.SetNetworkPolicy(ctx, "alone", api.NetworkPolicy{})
	s.wantCode("a policy of an instance without a network", err, api.BadState)
	_, err = s.NetworkState(ctx, "nosuch")
	s.wantCode("an unknown instance", err, api.NotFound)
	_, err = s.SetNetworkPolicy(ctx, "nosuch", api.NetworkPolicy{})
	s.wantCode("an unknown instance", err, api.NotFound)
}
