package policy

import (
	"net/netip"
	"strings"
	"testing"
)

// decision is one row: what a policy makes of a packet, written as
// "tcp 1.2.3.4:80" or "ping 1.2.3.4".
type decision struct {
	allow  string // rules, separated by blanks; "deny" is nothing at all
	ports  []uint16
	packet string
	want   string
}

const (
	hostUplink = "198.51.100.2"
	pinnedAddr = "203.0.113.77" // every port
	pinnedPort = "203.0.113.78" // 443 only
)

var decisions = []decision{
	{"", nil, "tcp 203.0.113.10:443", Allowed},
	{"", nil, "udp 203.0.113.10:7", Allowed},
	{"", nil, "ping 203.0.113.10", Allowed},
	{"deny", nil, "tcp 203.0.113.10:443", DropEgress},
	{"", nil, "udp 10.213.0.1:53", Allowed},
	{"deny", nil, "tcp 10.213.0.1:53", Allowed},
	{"", nil, "ping 10.213.0.1", DropHost},
	{"", nil, "tcp 10.213.0.1:22", DropHost},
	{"", []uint16{8080}, "tcp 10.213.0.1:8080", Allowed},
	{"deny", []uint16{8080}, "udp 10.213.0.1:8080", Allowed},
	{"", []uint16{8080}, "tcp 10.213.0.1:8081", DropHost},
	{"", []uint16{8080}, "tcp " + hostUplink + ":8080", DropHost},
	{hostUplink, nil, "tcp " + hostUplink + ":22", DropHost},
	{"0.0.0.0/1 128.0.0.0/1", nil, "tcp 169.254.169.254:80", DropLinkLocal},
	{"0.0.0.0/1 128.0.0.0/1", nil, "udp 240.0.0.1:7", DropReserved},
	{"0.0.0.0/1 128.0.0.0/1", nil, "udp 224.0.0.251:5353", DropReserved},
	{"10.0.0.0/8", nil, "tcp 10.213.0.9:22", DropGuests},
	{"", nil, "tcp 10.0.0.1:443", DropPrivate},
	{"0.0.0.0/0", nil, "udp 192.168.1.1:443", DropPrivate},
	{"internet 192.168.0.0/16", nil, "udp 192.168.1.1:443", Allowed},
	{"192.168.1.1:22", nil, "tcp 192.168.1.1:22", Allowed},
	{"192.168.1.1:22", nil, "tcp 192.168.1.1:23", DropPrivate},
	{"192.168.1.1:22", nil, "ping 192.168.1.1", DropPrivate},
	{"100.64.0.0/10", nil, "tcp 100.100.100.200:80", Allowed},
	{"", nil, "udp 8.8.8.8:53", DropResolver},
	{"", nil, "tcp 8.8.8.8:853", DropResolver},
	{"8.8.8.8:53", nil, "udp 8.8.8.8:53", Allowed},
	{"203.0.113.10:443", nil, "tcp 203.0.113.10:443", Allowed},
	{"203.0.113.10:443", nil, "tcp 203.0.113.10:7", DropEgress},
	{"203.0.113.10:443", nil, "ping 203.0.113.10", DropEgress},
	{"203.0.113.10", nil, "udp 203.0.113.11:443", DropEgress},
	{"example.com", nil, "tcp " + pinnedAddr + ":443", Allowed},
	{"example.com", nil, "ping " + pinnedAddr, Allowed},
	{"example.com", nil, "tcp " + pinnedPort + ":443", Allowed},
	{"example.com", nil, "tcp " + pinnedPort + ":80", DropEgress},
	{"example.com", nil, "udp " + pinnedAddr + ":53", DropResolver},
	{"203.0.113.10", nil, "tcp " + pinnedAddr + ":443", DropEgress},
}

func (d decision) parse(t *testing.T) (p Policy, k Packet) {
	t.Helper()
	p.HostPorts = d.ports
	for _, text := range strings.Fields(d.allow) {
		if text == "deny" {
			p.Deny = true
			continue
		}
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		p.Allow = append(p.Allow, r)
	}
	how, to, _ := strings.Cut(d.packet, " ")
	if how == "ping" {
		return p, Packet{Protocol: 1, To: netip.MustParseAddr(to)}
	}
	at := netip.MustParseAddrPort(to)
	return p, Packet{Protocol: map[string]uint8{"tcp": TCP, "udp": UDP}[how], To: at.Addr(), Port: at.Port()}
}

func site() Site {
	return Site{
		Gateway: netip.MustParseAddr("10.213.0.1"), Pools: prefixes("10.213.0.0/16"), DNS: true,
		Local: func(a netip.Addr) bool { return a.String() == hostUplink },
		Pinned: func(a netip.Addr, port uint16) bool {
			return a.String() == pinnedAddr || a.String() == pinnedPort && port == 443
		},
	}
}

func TestWhatAGuestMayReach(t *testing.T) {
	for _, d := range decisions {
		p, k := d.parse(t)
		if got := p.Decide(k, site()); got != d.want {
			t.Errorf("%q with %q and ports %v: %s, expected %s", d.packet, d.allow, d.ports, got, d.want)
		}
	}
	s := site()
	s.DNS = false
	if got := (Policy{}).Decide(Packet{UDP, s.Gateway, 53}, s); got != DropHost {
		t.Errorf("a gateway without a resolver: %s", got)
	}
}

// TestEveryClauseIsNeeded leaves each out in turn: a row must notice.
func TestEveryClauseIsNeeded(t *testing.T) {
	for i := range clauses[:len(clauses)-1] { // what nothing matches is dropped in any case
		without := append(append([]clause{}, clauses[:i]...), clauses[i+1:]...)
		noticed := false
		for _, d := range decisions {
			p, k := d.parse(t)
			noticed = noticed || p.decide(without, k, site()) != d.want
		}
		if !noticed {
			t.Errorf("nobody notices that clause %d, %q, is missing", i, clauses[i].count)
		}
	}
}
