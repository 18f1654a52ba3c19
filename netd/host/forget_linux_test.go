package host_test

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// flows counts the connections that the host knows of, by who began them.
func flows(t *testing.T) map[string]int {
	t.Helper()
	all, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, f := range all {
		n[f.Forward.SrcIP.String()]++
	}
	return n
}

func TestOnlyTheConnectionsOfAGuestThatGoesAreForgotten(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	n := open(t, host.Options{})
	goes, stays := plug(t, n, "m-1", policy.Policy{}), plug(t, n, "m-2", policy.Policy{})
	for _, g := range []*nettest.Guest{goes, stays} {
		g.Send(g.UDP(nettest.Server, 7, g.Marker()))
		g.Settle()
	}
	if before := flows(t); before[goes.Addr.String()] != 1 || before[stays.Addr.String()] != 1 {
		t.Fatalf("connections: %v", before)
	}
	if err := n.Detach(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	if after := flows(t); after[goes.Addr.String()] != 0 || after[stays.Addr.String()] != 1 {
		t.Errorf("connections when a guest has gone: %v", after)
	}
}
