package host_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// heard waits until so many packets to private networks were told as denied.
func heard(t *testing.T, told <-chan netd.Denial, packets uint64) {
	t.Helper()
	for late := time.After(10 * time.Second); packets > 0; {
		select {
		case d := <-told:
			if got := d.Packets["private"]; d.Machine != "m-1" || got == 0 || got > packets {
				t.Fatalf("told %+v, %d packets of m-1 expected", d, packets)
			}
			packets -= d.Packets["private"]
		case <-late:
			t.Fatalf("%d packets were not told", packets)
		}
	}
}

func follow(t *testing.T, n *host.Network) <-chan netd.Denial {
	t.Helper()
	told, err := n.Denials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return told
}

// sendDenied has a guest send packets to a private network.
func sendDenied(g *nettest.Guest, packets int) {
	for range packets {
		g.Send(g.UDP(nettest.Elsewhere, 7, nil))
	}
	g.Settle()
}

func TestWhatWasDeniedJustBeforeADetachIsTold(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	n := open(t, host.Options{})
	told := follow(t, n)
	g := plug(t, n, "m-1", policy.Policy{})
	sendDenied(g, 1)
	heard(t, told, 1)
	sendDenied(g, 3)
	if err := n.Detach(t.Context(), "m-1"); err != nil {
		t.Fatal(err)
	}
	heard(t, told, 3)
}

// TestWhereNobodyCanBeToldDenialsAreCounted has another netd that has the group.
func TestWhereNobodyCanBeToldDenialsAreCounted(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	other, dir := open(t, host.Options{}), t.TempDir()
	n := open(t, host.Options{Dir: dir})
	g := plug(t, n, "m-1", policy.Policy{})
	if _, err := n.Denials(t.Context()); api.CodeOf(err) != api.Unavailable {
		t.Errorf("denials: %v, %s expected", err, api.Unavailable)
	}
	support, err := n.Support(t.Context())
	if err != nil || !slices.ContainsFunc(support.Notes, func(s string) bool { return strings.HasPrefix(s, "denials are counted") }) {
		t.Errorf("support: %+v, %v", support, err)
	}
	sendDenied(g, 3)
	if got := denied(t, n); !maps.Equal(got, map[string]uint64{"private": 3}) {
		t.Errorf("counted: %v", got)
	}

	other.Close()
	n.Close()
	n = open(t, host.Options{Dir: dir})
	told := follow(t, n)
	sendDenied(g, 2)
	heard(t, told, 2)
	if got := denied(t, n); !maps.Equal(got, map[string]uint64{"private": 5}) {
		t.Errorf("counted after a restart: %v", got)
	}
}

// denied is what counters say that m-1 was denied.
func denied(t *testing.T, n *host.Network) map[string]uint64 {
	t.Helper()
	s, err := n.Get(t.Context(), "m-1")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]uint64{}
	for _, c := range s.Counters {
		if c.Name != "allowed" && c.Packets > 0 {
			all[c.Name] = c.Packets
		}
	}
	return all
}
