package host_test

import (
	"bytes"
	"testing"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// open opens a network in the test's namespace.
func open(t testing.TB, o host.Options) *host.Network {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	n, err := host.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// plug gives a machine a network and a guest that is only frames.
func plug(t testing.TB, n netd.Network, machine string, p policy.Policy) *nettest.Guest {
	t.Helper()
	l, err := n.Attach(t.Context(), machine, p)
	if err != nil {
		t.Fatal(err)
	}
	return open1(t, n, l)
}

func open1(t testing.TB, n netd.Network, l netd.Lease) *nettest.Guest {
	t.Helper()
	f, err := n.OpenTap(t.Context(), l.Machine)
	if err != nil {
		t.Fatal(err)
	}
	return nettest.NewGuest(t, f, netd.GuestMAC[:], netd.GatewayMAC[:], l.Addr, l.Gateway)
}

func TestAGuestReachesTheInternetAndNoMore(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	n := open(t, host.Options{})
	g := plug(t, n, "m-1", policy.Policy{})
	mark := g.Marker()
	g.Send(g.UDP(nettest.Server, 7, mark))
	answer := g.Await("the server's answer", func(f []byte) bool { return bytes.Contains(f, mark) })
	if !bytes.Contains(answer, []byte(nettest.Uplink+":")) {
		t.Errorf("the server has seen %q, the host's address expected", answer)
	}
	if left, ok := g.Settle(); len(left) != 0 || !ok {
		t.Errorf("came: %q", left)
	}
}

func TestContract(t *testing.T) {
	if nettest.Isolated(t) {
		nettest.Contract(t, open(t, host.Options{DNS: true}))
	}
}
