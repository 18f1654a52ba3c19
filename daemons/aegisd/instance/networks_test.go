package instance_test

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	egress "github.com/xfeldman/aegisvm/netd/policy"
)

// networks is a netd.Network that only remembers.
type networks struct {
	mu     sync.Mutex // guards the fields below
	leases map[string]netd.Lease
	down   error         // what every call answers
	gone   chan struct{} // gets one when a machine is detached, if it is there

	denials chan netd.Denial // what it tells
}

var _ netd.Network = (*networks)(nil)

func newNetworks() *networks {
	return &networks{leases: map[string]netd.Lease{}, denials: make(chan netd.Denial)}
}

func (n *networks) with(machine string, do func(l netd.Lease, there bool) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down != nil {
		return n.down
	}
	l, there := n.leases[machine]
	return do(l, there)
}

func (n *networks) Attach(_ context.Context, machine string, p egress.Policy) (l netd.Lease, err error) {
	return l, n.with(machine, func(_ netd.Lease, there bool) error {
		if there {
			return api.Errorf(api.Exists, "machine %s has a network", machine)
		}
		l = netd.Lease{
			Machine: machine, Link: fmt.Sprintf("aegis%d", len(n.leases)), Policy: p,
			Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(2 + len(n.leases))}), Gateway: netip.AddrFrom4([4]byte{10, 0, 0, 1}),
		}
		n.leases[machine] = l
		return nil
	})
}

func (n *networks) SetPolicy(_ context.Context, machine string, p egress.Policy) error {
	return n.with(machine, func(l netd.Lease, there bool) error {
		if !there {
			return api.Errorf(api.NotFound, "machine %s has no network", machine)
		}
		l.Policy = p
		n.leases[machine] = l
		return nil
	})
}

func (n *networks) Detach(_ context.Context, machine string) error {
	return n.with(machine, func(netd.Lease, bool) error {
		delete(n.leases, machine)
		select {
		case n.gone <- struct{}{}:
		default:
		}
		return nil
	})
}

func (n *networks) Get(_ context.Context, machine string) (s netd.State, err error) {
	return s, n.with(machine, func(l netd.Lease, there bool) error {
		if !there {
			return api.Errorf(api.NotFound, "machine %s has no network", machine)
		}
		s = netd.State{Lease: l, Up: true, Counters: []netd.Counter{{Name: "host", Packets: 3, Bytes: 180}}}
		return nil
	})
}

func (n *networks) List(context.Context) (all []netd.Lease, err error) {
	return all, n.with("", func(netd.Lease, bool) error {
		for _, l := range n.leases {
			all = append(all, l)
		}
		slices.SortFunc(all, func(a, b netd.Lease) int { return cmp.Compare(a.Machine, b.Machine) })
		return nil
	})
}

func (n *networks) OpenTap(context.Context, string) (*os.File, error) {
	panic("fake machines have no taps")
}

func (n *networks) Guest(context.Context, netip.Addr) (netd.Lease, error) {
	panic("aegisd does not ask whose an address is")
}

func (n *networks) Pin(context.Context, string, string, []netip.Addr, time.Duration) error {
	panic("aegisd pins no names")
}

func (n *networks) Gateways(context.Context) (<-chan []netip.Addr, error) {
	panic("aegisd answers no questions for names")
}

func (n *networks) Denials(context.Context) (<-chan netd.Denial, error) {
	return n.denials, nil
}
func (n *networks) Support(context.Context) (netd.Support, error) { return netd.Support{}, nil }

func (n *networks) set(down error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
}

func TestANetworkLivesWithItsMachine(t *testing.T) {
	w := newWorld(t)
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	in := w.awaitPhase("web", api.PhaseRunning)
	if _, err := w.networks.Get(t.Context(), in.Machine); err != nil {
		t.Errorf("its machine has no network: %v", err)
	}
	w.restart() // the network stays
	if got := w.awaitPhase("web", api.PhaseRunning); got.Machine != in.Machine {
		t.Fatalf("another machine after a restart: %s, before %s", got.Machine, in.Machine)
	}
	if _, err := w.networks.Get(t.Context(), in.Machine); err != nil {
		t.Errorf("after a restart of aegisd its machine has no network: %v", err)
	}
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if all, _ := w.networks.List(t.Context()); len(all) != 0 {
		t.Errorf("a stopped instance has %v", all)
	}
}

func TestNetworksOfNobodyGo(t *testing.T) {
	w := newWorld(t)
	w.kill()
	if _, err := w.networks.Attach(t.Context(), "m-gone", egress.Policy{}); err != nil {
		t.Fatal(err)
	}
	w.networks.gone = make(chan struct{}, 1)
	w.start()
	<-w.networks.gone
	if all, _ := w.networks.List(t.Context()); len(all) != 0 {
		t.Errorf("left: %v", all)
	}
}

func TestAStartWithoutItsNetworkFailsAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.networks.set(api.Errorf(api.LimitExceeded, "no address is free"))
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	in := w.await("web", "its end", func(in api.Instance, _ error) bool { return in.LastError != "" })
	if !strings.Contains(in.LastError, "no address is free") {
		t.Errorf("it failed with %q", in.LastError)
	}
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "alone", NetworkSpec: api.NetworkSpec{Network: "none"}})
	w.awaitPhase("alone", api.PhaseRunning)
	if err := w.Delete(t.Context(), "alone"); err != nil {
		t.Errorf("an instance without a network needs no netd: %v", err)
	}
	w.networks.set(nil)
}

func TestAHostWithoutNetworks(t *testing.T) {
	w := newWorld(t)
	w.kill()
	w.networks = nil
	w.start()
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "alone"})
	w.awaitPhase("alone", api.PhaseRunning)
	if state, err := w.NetworkState(t.Context(), "alone"); err != nil || state.Network != "none" {
		t.Errorf("its network: %+v, %v", state, err)
	}
	for _, spec := range []api.NetworkSpec{
		{Network: "nat"},
		{Network: "host-services=80"},
		{EgressPolicy: api.EgressPolicy{DenyEgress: true}},
		{EgressPolicy: api.EgressPolicy{AllowEgress: []string{"internet"}}},
	} {
		_, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}, NetworkSpec: spec})
		if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "no rights") {
			t.Errorf("%+v: %v", spec, err)
		}
	}
}
