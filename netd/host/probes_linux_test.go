package host_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"

	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// probed is where probes run.
type probed struct {
	*nettest.Probed
	n   *host.Network
	dir string
}

// newProbed makes two guests in a world.
func newProbed(t *testing.T) *probed {
	t.Helper()
	p := &probed{dir: t.TempDir()}
	w := nettest.NewWorld(t)
	p.n = open(t, host.Options{Dir: p.dir, DNS: true})
	p.Probed = nettest.NewProbed(w, p.n)
	return p
}

// reopen makes the network anew, as after a restart of netd.
func (p *probed) reopen(t *testing.T) {
	t.Helper()
	p.n.Close()
	p.n = open(t, host.Options{Dir: p.dir, DNS: true})
	p.N = p.n
}

// probes and wants are those of every network, and of one that routes.
func probes() []nettest.Probe { return append(nettest.Probes(), nettest.StrangerProbes()...) }

func wants() []nettest.Want {
	// Before the last one, which leaves no room.
	return slices.Insert(slices.Clone(nettest.Wants), len(nettest.Wants)-1, []nettest.Want{
		{Name: "a name for as long as it is used", Allow: []string{"example.com"}, Works: refreshed("pins-aegis0", "example.com", 7)},
		{
			Name: "a name with a port for as long as it is used", Allow: []string{"*.example.com:443"},
			Works: refreshed("port-pins-aegis0", "www.example.com", 443),
		},
		{Name: "the host calls a guest", Works: nettest.HostCalls},
	}...)
}

// refreshed tells whether a pin's time begins anew when it is used, which
// shows where it was longer before.
func refreshed(set, name string, port int) func(*nettest.Probed) bool {
	return func(p *nettest.Probed) bool {
		if err := p.N.Pin(p.T.Context(), "m-1", name, []netip.Addr{netip.MustParseAddr(nettest.Server)}, 23*time.Hour); err != nil {
			p.T.Fatal(err)
		}
		mark := p.G.Marker()
		for range 2 { // the second one is of a connection that is known
			p.G.Send(p.G.UDP(nettest.Server, port, mark))
			p.G.Within(time.Second, func(f []byte) bool { return bytes.Contains(f, mark) })
		}
		c, err := nftables.New()
		if err != nil {
			p.T.Fatal(err)
		}
		inet := &nftables.Table{Name: "aegis", Family: nftables.TableFamilyINet}
		elements, err := c.GetSetElements(&nftables.Set{Table: inet, Name: set})
		return err == nil && len(elements) == 1 && elements[0].Expires <= policy.PinLife && elements[0].Comment == name
	}
}

func TestGuestsAreKeptIn(t *testing.T) {
	if nettest.Isolated(t) {
		newProbed(t).KeptIn(probes())
	}
}

func TestGuestsGetWhatTheyMay(t *testing.T) {
	if nettest.Isolated(t) {
		newProbed(t).Get(wants())
	}
}
