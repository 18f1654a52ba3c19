package nettest

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// Contract is the contract of netd.Network as one test, for a network that is
// new in the test's namespace, which is Isolated.
func Contract(t *testing.T, n netd.Network) { contract(t, n, true) }

// ContractWithoutTaps is Contract for a network whose guests have none: what
// OpenTap gives is made by the test.
func ContractWithoutTaps(t *testing.T, n netd.Network) { contract(t, n, false) }

func contract(t *testing.T, n netd.Network, withTaps bool) {
	w := NewWorld(t)
	for _, c := range []struct {
		name string
		test func(*testing.T, *World, netd.Network)
		taps bool
	}{
		{"a machine that is not there is NotFound", unknown, false},
		{"what cannot be is refused", refusals, false},
		{"a lease is told as it was given", leases, false},
		{"a tap is one while somebody holds it", taps, true},
		{"a policy is changed and names are pinned", policies, false},
		{"what is denied is told", denials, false},
		{"what is detached is gone", detach, false},
	} {
		if withTaps || !c.taps {
			t.Run(c.name, func(t *testing.T) { c.test(t, w, n) })
		}
	}
}

func wantCode(t *testing.T, what string, err error, code api.Code) {
	t.Helper()
	if api.CodeOf(err) != code {
		t.Errorf("%s: %v, expected %s", what, err, code)
	}
}

func unknown(t *testing.T, _ *World, n netd.Network) {
	ctx := t.Context()
	_, err := n.OpenTap(ctx, "m-none")
	wantCode(t, "open", err, api.NotFound)
	_, err = n.Get(ctx, "m-none")
	wantCode(t, "get", err, api.NotFound)
	_, err = n.Guest(ctx, netip.MustParseAddr("10.213.0.2"))
	wantCode(t, "guest", err, api.NotFound)
	wantCode(t, "set policy", n.SetPolicy(ctx, "m-none", policy.Policy{}), api.NotFound)
	wantCode(t, "pin", n.Pin(ctx, "m-none", "a.example", nil, time.Second), api.NotFound)
	wantCode(t, "detach", n.Detach(ctx, "m-none"), "")
}

func refusals(t *testing.T, _ *World, n netd.Network) {
	for _, id := range []string{"", "../x", "M", "a/b", "a\x00b", "\xff", "a-name-that-is-longer-than-32-chars"} {
		_, err := n.Attach(t.Context(), id, policy.Policy{})
		wantCode(t, fmt.Sprintf("attach %q", id), err, api.InvalidArgument)
	}
	for _, p := range []policy.Policy{
		{Deny: true, Allow: []policy.Rule{{Internet: true}}},
		{Allow: []policy.Rule{{}}},
		{HostPorts: []uint16{0}},
		{Allow: []policy.Rule{{Prefix: netip.MustParsePrefix("169.254.169.254/32")}}},
	} {
		_, err := n.Attach(t.Context(), "m-bad", p)
		wantCode(t, fmt.Sprintf("attach %+v", p), err, api.InvalidArgument)
	}
	if all, err := n.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}

// gateways are those that a network tells next.
func gateways(t *testing.T, told <-chan []netip.Addr) string {
	t.Helper()
	select {
	case all, more := <-told:
		if !more {
			t.Error("gateways are told no more")
		}
		return fmt.Sprint(all)
	case <-time.After(patience):
		t.Error("no gateways are told")
	}
	return ""
}

func leases(t *testing.T, _ *World, n netd.Network) {
	ctx := t.Context()
	told, err := n.Gateways(ctx)
	must(t, err)
	if got := gateways(t, told); got != "[]" {
		t.Errorf("gateways before there are guests: %s", got)
	}
	p := policy.Policy{HostPorts: []uint16{80}, Allow: []policy.Rule{{Name: "*.example.com", Port: 443}, {Internet: true}}}
	l, err := n.Attach(ctx, "m-1", p)
	must(t, err)
	if got := gateways(t, told); got != fmt.Sprintf("[%s]", l.Gateway) || l.Resolver != l.Gateway {
		t.Errorf("gateways with a guest: %s, the lease %+v", got, l)
	}
	if l.Machine != "m-1" || !l.Addr.Is4() || l.Gateway == l.Addr || fmt.Sprint(l.Policy) != fmt.Sprint(p) {
		t.Errorf("lease %+v", l)
	}
	_, err = n.Attach(ctx, "m-1", p)
	wantCode(t, "attach again", err, api.Exists)
	all, err := n.List(ctx)
	must(t, err)
	s, err := n.Get(ctx, "m-1")
	must(t, err)
	g, err := n.Guest(ctx, l.Addr)
	must(t, err)
	for name, got := range map[string]netd.Lease{"list": all[0], "get": s.Lease, "guest": g} {
		if fmt.Sprint(got) != fmt.Sprint(l) {
			t.Errorf("%s: %+v, expected %+v", name, got, l)
		}
	}
	if s.Up || len(s.Counters) == 0 {
		t.Errorf("before its tap: %+v", s)
	}
	if support, err := n.Support(ctx); err != nil || support.Missing != "" || len(support.Pools) == 0 {
		t.Errorf("support: %+v, %v", support, err)
	}
}

// plug opens the tap of a machine that is attached.
func plug(t testing.TB, n netd.Network, machine string) *Guest {
	t.Helper()
	s, err := n.Get(t.Context(), machine)
	must(t, err)
	f, err := n.OpenTap(t.Context(), machine)
	must(t, err)
	g := NewGuest(t, f, netd.GuestMAC[:], netd.GatewayMAC[:], s.Addr, s.Gateway)
	if later, ok := n.(interface{ Behind(machine string) }); ok {
		g.Behind = func() { later.Behind(machine) }
	}
	return g
}

func (g *Guest) reaches(addr string, port int) bool {
	mark := g.Marker()
	g.Send(g.UDP(addr, port, mark))
	return g.Within(time.Second, func(f []byte) bool { return bytes.Contains(f, mark) }) != nil
}

func taps(t *testing.T, _ *World, n netd.Network) {
	g := plug(t, n, "m-1")
	if s, err := n.Get(t.Context(), "m-1"); err != nil || !s.Up {
		t.Errorf("with a tap: %+v, %v", s, err)
	}
	if _, err := n.OpenTap(t.Context(), "m-1"); err == nil {
		t.Error("a tap was opened twice")
	}
	if !g.reaches(Server, 7) {
		t.Error("the internet does not answer")
	}
	g.f.Close()
	if s, err := n.Get(t.Context(), "m-1"); err != nil || s.Up {
		t.Errorf("when nobody holds the tap: %+v, %v", s, err)
	}
}

func policies(t *testing.T, w *World, n netd.Network) {
	ctx := t.Context()
	g := plug(t, n, "m-1") // for the second time
	g.MAC = net.HardwareAddr{2, 1, 2, 3, 4, 5}
	mark := g.Marker()
	g.Send(g.UDP(Server, 7, mark))
	g.MAC = netd.GuestMAC[:]
	if leaks := w.Leaks(g, mark); len(leaks) > 0 {
		t.Errorf("another hardware address on a tap that was opened again: %v", leaks)
	}
	must(t, n.SetPolicy(ctx, "m-1", policy.Policy{Allow: []policy.Rule{{Name: "example.com"}}}))
	if g.reaches(Server, 7) {
		t.Error("a name that nobody has asked for is open")
	}
	must(t, n.Pin(ctx, "m-1", "example.com", []netip.Addr{netip.MustParseAddr(Server), netip.MustParseAddr("2001:db8::1")}, time.Second))
	if !g.reaches(Server, 7) {
		t.Error("a name that was pinned is closed")
	}
	must(t, n.Pin(ctx, "m-1", "example.com", []netip.Addr{netip.MustParseAddr(Server)}, time.Hour)) // again
	must(t, n.SetPolicy(ctx, "m-1", policy.Policy{Deny: true}))
	if g.reaches(Server, 7) {
		t.Error("what is denied is open")
	}
	wantCode(t, "a policy that cannot be", n.SetPolicy(ctx, "m-1", policy.Policy{HostPorts: []uint16{0}}), api.InvalidArgument)
	if s, err := n.Get(ctx, "m-1"); err != nil || !s.Policy.Deny {
		t.Errorf("the policy is %+v, %v", s.Policy, err)
	}
}

// denials has a machine of its own, so that all of its counters are to be told.
func denials(t *testing.T, _ *World, n netd.Network) {
	ctx := t.Context()
	told, err := n.Denials(ctx)
	if api.CodeOf(err) == api.Unavailable {
		t.Skip(err)
	}
	must(t, err)
	_, err = n.Attach(ctx, "m-2", policy.Policy{})
	must(t, err)
	g := plug(t, n, "m-2")
	stranger := *g
	stranger.MAC = net.HardwareAddr{2, 1, 2, 3, 4, 5}
	heard, signals, began := map[string]uint64{}, 0, time.Now()
	for what, frames := range map[string][][]byte{
		"a packet": {g.UDP(Elsewhere, 7, nil)},
		"a frame":  {stranger.UDP(Server, 7, nil)},
		"a flood":  slices.Repeat([][]byte{g.UDP(Elsewhere, 7, nil), stranger.UDP(Server, 7, nil)}, 1000),
	} {
		for _, f := range frames {
			g.Send(f)
		}
		g.Settle()
		// A network may count a moment later than a guest sends.
		counted := func() map[string]uint64 { return deniedTo(t, n, "m-2") }
		for late := time.After(2 * patience); len(heard) == 0 || !maps.Equal(heard, counted()); {
			select {
			case d := <-told:
				if d.Machine != "m-2" {
					continue
				}
				signals++
				for reason, packets := range d.Packets {
					heard[reason] += packets
				}
			case <-late:
				t.Fatalf("after %s %v is told, %v was counted", what, heard, counted())
			}
		}
	}
	if most := 1 + int(time.Since(began)/time.Second); signals > most || len(heard) < 2 {
		t.Errorf("%v was told by %d signals, at most %d expected", heard, signals, most)
	}
	must(t, n.Detach(ctx, "m-2"))
}

// deniedTo is what counters say that a machine was denied.
func deniedTo(t *testing.T, n netd.Network, machine string) map[string]uint64 {
	t.Helper()
	s, err := n.Get(t.Context(), machine)
	must(t, err)
	all := map[string]uint64{}
	for _, c := range s.Counters {
		if c.Name != "allowed" && c.Packets > 0 {
			all[c.Name] = c.Packets
		}
	}
	return all
}

func detach(t *testing.T, _ *World, n netd.Network) {
	ctx := t.Context()
	told, err := n.Gateways(ctx)
	must(t, err)
	if got := gateways(t, told); got == "[]" {
		t.Error("there is a guest, and no gateway is told")
	}
	must(t, n.Detach(ctx, "m-1"))
	if got := gateways(t, told); got != "[]" {
		t.Errorf("gateways when the last guest has gone: %s", got)
	}
	must(t, n.Detach(ctx, "m-1"))
	_, err = n.Get(ctx, "m-1")
	wantCode(t, "get", err, api.NotFound)
	if all, err := n.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}
