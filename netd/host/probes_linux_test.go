package host_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// probe is something that a guest, or somebody else, must not get through.
type probe struct {
	name string
	// counter is what counts it.
	counter string
	// allow is the policy, which allows as much as a policy can beside what is
	// probed, so that nothing else stands in the way.
	allow []string
	send  func(p *probed, mark []byte)
}

// probed is where probes run.
type probed struct {
	*nettest.World
	n        *host.Network
	dir      string
	g, other *nettest.Guest
}

var stranger = net.HardwareAddr{0x02, 1, 2, 3, 4, 5}

// wide opens all networks that a rule can open.
var wide = []string{"internet", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "192.0.0.0/24"}

func to(send func(g *nettest.Guest, mark []byte) []byte) func(*probed, []byte) {
	return func(p *probed, mark []byte) { p.g.Send(send(p.g, mark)) }
}

func udp(addr string, port int) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte { return g.UDP(addr, port, mark) })
}

func tcp(addr string, port int) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte { return g.SYN(addr, port, mark) })
}

func ping(addr string) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte { return g.Ping(addr, mark) })
}

// probes are all of them; hostProbes and the like are generated, as they
// differ in one number only.
func probes() []probe {
	all := hostProbes()
	all = append(all, wanProbes()...)
	all = append(all, wireProbes()...)
	return append(all, strangerProbes()...)
}

func hostProbes() (all []probe) {
	add := func(name string, send func(*probed, []byte)) { all = append(all, probe{name, "host", wide, send}) }
	for _, port := range nettest.HostPorts {
		if port == 53 {
			continue // names are answered there
		}
		add(fmt.Sprintf("host, gateway, udp %d", port), gateway(port, (*nettest.Guest).UDP))
		add(fmt.Sprintf("host, gateway, tcp %d", port), gateway(port, (*nettest.Guest).SYN))
	}
	for name, addr := range map[string]string{"uplink": nettest.Uplink, "lan": nettest.HostInLAN} {
		add("host, "+name+" address, tcp", tcp(addr, 22))
		add("host, "+name+" address, udp", udp(addr, 8080))
		add("host, "+name+" address, ping", ping(addr))
	}
	add("host, gateway, ping", to(func(g *nettest.Guest, mark []byte) []byte { return g.Ping(g.Gateway.String(), mark) }))
	add("host, fragmented datagram", fragments)
	add("host, limited broadcast at its own address", udp("255.255.255.255", 67))
	add("host, all hosts of the link at its own address", udp("224.0.0.1", 5353))
	add("host, protocol without ports", to(func(g *nettest.Guest, mark []byte) []byte {
		return nettest.Frame(g.Ether(), g.IP(g.Gateway.String(), layers.IPProtocolGRE), gopacket.Payload(mark))
	}))
	return all
}

// gateway sends to a port of the host where the guest knows it.
func gateway(port int, frame func(*nettest.Guest, string, int, []byte) []byte) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte { return frame(g, g.Gateway.String(), port, mark) })
}

// fragments sends a datagram for a service of the host in two parts, the first
// of which is too short for its header.
func fragments(p *probed, mark []byte) {
	whole := p.g.UDP(p.g.Gateway.String(), 8080, append(make([]byte, 64), mark...))
	body := whole[14+20:]
	for at, part := range map[int][]byte{0: body[:8], 1: body[8:]} {
		ip := p.g.IP(p.g.Gateway.String(), layers.IPProtocolUDP)
		ip.FragOffset = uint16(at)
		if at == 0 {
			ip.Flags = layers.IPv4MoreFragments
		}
		p.g.Send(nettest.Frame(p.g.Ether(), ip, gopacket.Payload(part)))
	}
}

func wanProbes() (all []probe) {
	for name, addr := range map[string]string{
		"metadata of clouds": nettest.Metadata, "metadata of containers": "169.254.170.2",
	} {
		all = append(all, probe{name + ", tcp", "link-local", wide, tcp(addr, 443)}, probe{name + ", udp", "link-local", wide, udp(addr, 443)})
	}
	all = append(all,
		probe{"reserved addresses", "reserved", wide, udp("240.0.0.1", 443)},
		probe{"another guest, udp", "guests", wide, func(p *probed, m []byte) { p.g.Send(p.g.UDP(p.other.Addr.String(), 7, m)) }},
		probe{"another guest, tcp", "guests", wide, func(p *probed, m []byte) { p.g.Send(p.g.SYN(p.other.Addr.String(), 22, m)) }},
		probe{"another guest, ping", "guests", wide, func(p *probed, m []byte) { p.g.Send(p.g.Ping(p.other.Addr.String(), m)) }},
		probe{"an address that may become a guest's", "guests", wide, udp("10.214.0.9", 7)})
	for _, addr := range []string{
		nettest.Neighbour, nettest.Elsewhere, "10.0.0.1", "172.16.5.5", "172.31.255.254", "192.168.1.1",
		"100.64.0.1", "100.100.100.200", "198.18.0.1", "192.0.0.170",
	} {
		all = append(all, probe{"private network, tcp " + addr, "private", nil, tcp(addr, 443)},
			probe{"private network and a wide rule, udp " + addr, "private", []string{"0.0.0.0/0"}, udp(addr, 443)})
	}
	for _, addr := range []string{nettest.Resolver, "9.9.9.9"} {
		all = append(all, probe{"another resolver, udp " + addr, "resolver", nil, udp(addr, 53)},
			probe{"another resolver, tcp " + addr, "resolver", nil, tcp(addr, 53)},
			probe{"another resolver, tls " + addr, "resolver", nil, tcp(addr, 853)})
	}
	return append(all,
		probe{"another port than the one allowed", "egress", []string{nettest.Server + ":443"}, tcp(nettest.Server, 7)},
		probe{"a protocol without the port that is allowed", "egress", []string{nettest.Server + ":443"}, ping(nettest.Server)},
		probe{"an address beside the one allowed", "egress", []string{nettest.Server}, udp("203.0.113.11", 443)},
		probe{"what a name has not resolved to", "egress", []string{"example.com"}, tcp(nettest.Server, 443)},
		probe{"anything when all is denied", "egress", []string{"deny"}, udp(nettest.Server, 443)},
	)
}

// wireProbes are of frames that are not what the guest may send at all.
func wireProbes() []probe {
	return []probe{
		{"another hardware address", "mac", nil, to(func(g *nettest.Guest, m []byte) []byte {
			e := g.Ether()
			e.SrcMAC = stranger
			return nettest.Frame(e, g.IP(nettest.Server, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 7}, gopacket.Payload(m))
		})},
		{"arp with another hardware address", "arp-mac", nil, to(func(g *nettest.Guest, _ []byte) []byte {
			return g.ARP(stranger, g.Addr.String(), g.Gateway.String())
		})},
		{"arp for another guest", "arp-ip", nil, func(p *probed, _ []byte) {
			p.g.Send(p.g.ARP(p.g.MAC, p.other.Addr.String(), p.g.Gateway.String()))
		}},
		{"arp as the gateway", "arp-ip", nil, to(func(g *nettest.Guest, _ []byte) []byte {
			return g.ARP(g.MAC, g.Gateway.String(), g.Gateway.String())
		})},
		{"arp for the host's other address", "arp-target", nil, to(func(g *nettest.Guest, _ []byte) []byte {
			return g.ARP(g.MAC, g.Addr.String(), nettest.Uplink)
		})},
		{"another guest's address", "ip", nil, func(p *probed, m []byte) { p.g.Send(from(p.g, p.other.Addr.String(), m)) }},
		{"a neighbour's address", "ip", nil, to(func(g *nettest.Guest, m []byte) []byte { return from(g, nettest.Neighbour, m) })},
		{"the gateway's address", "ip", nil, to(func(g *nettest.Guest, m []byte) []byte { return from(g, g.Gateway.String(), m) })},
		{"a public address", "ip", nil, to(func(g *nettest.Guest, m []byte) []byte { return from(g, nettest.Server, m) })},
		{"no address, as dhcp has it", "ip", nil, to(func(g *nettest.Guest, m []byte) []byte { return from(g, "0.0.0.0", m) })},
		{"broadcast", "broadcast", nil, to(func(g *nettest.Guest, m []byte) []byte {
			return toMAC(g, layers.EthernetBroadcast, "255.255.255.255", m)
		})},
		{"multicast dns", "broadcast", nil, to(func(g *nettest.Guest, m []byte) []byte {
			return toMAC(g, net.HardwareAddr{1, 0, 0x5e, 0, 0, 251}, "224.0.0.251", m)
		})},
		{"another machine on the link", "broadcast", nil, to(func(g *nettest.Guest, m []byte) []byte { return toMAC(g, stranger, nettest.Server, m) })},
		{"ipv6, router advertisement", "ipv6", nil, ipv6(layers.ICMPv6TypeRouterAdvertisement)},
		{"ipv6, neighbour advertisement", "ipv6", nil, ipv6(layers.ICMPv6TypeNeighborAdvertisement)},
		{"ipv6, redirect", "ipv6", nil, ipv6(layers.ICMPv6TypeRedirect)},
		{"ipv6, ping", "ipv6", nil, ipv6(layers.ICMPv6TypeEchoRequest)},
		{"a virtual lan", "ethertype", nil, kind(layers.EthernetTypeDot1Q)},
		{"a virtual lan in another", "ethertype", nil, kind(layers.EthernetTypeQinQ)},
		{"link layer discovery", "ethertype", nil, kind(layers.EthernetTypeLinkLayerDiscovery)},
		{"a redirect of routes", "host", nil, redirect},
	}
}

func from(g *nettest.Guest, addr string, mark []byte) []byte {
	ip := g.IP(nettest.Server, layers.IPProtocolUDP)
	ip.SrcIP = net.ParseIP(addr).To4()
	return nettest.Frame(g.Ether(), ip, &layers.UDP{SrcPort: 1, DstPort: 7}, gopacket.Payload(mark))
}

func toMAC(g *nettest.Guest, mac net.HardwareAddr, addr string, mark []byte) []byte {
	e := g.Ether()
	e.DstMAC = mac
	return nettest.Frame(e, g.IP(addr, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 5353}, gopacket.Payload(mark))
}

func ipv6(kind uint8) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte {
		e := g.Ether()
		e.EthernetType, e.DstMAC = layers.EthernetTypeIPv6, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		return nettest.Frame(e,
			&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::2"), DstIP: net.ParseIP("ff02::1")},
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload(append(make([]byte, 12), mark...)))
	})
}

func kind(t layers.EthernetType) func(*probed, []byte) {
	return to(func(g *nettest.Guest, mark []byte) []byte {
		e := g.Ether()
		e.EthernetType = t
		return nettest.Frame(e, gopacket.Payload(append(make([]byte, 60), mark...)))
	})
}

// redirect tells the host that there is a better way to the server.
func redirect(p *probed, mark []byte) {
	inner := nettest.Frame(p.g.IP(p.g.Gateway.String(), layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 7})
	p.g.Send(nettest.Frame(p.g.Ether(), p.g.IP(p.g.Gateway.String(), layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeRedirect, 1)}, gopacket.Payload(append(inner, mark...))))
}

// strangerProbes are of others than the guest.
func strangerProbes() []probe {
	frame := func(p *probed, link, src, dst string, mark []byte) []byte {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
		return nettest.Frame(nettest.Via(p.T, link), ip, &layers.UDP{SrcPort: 9, DstPort: 9}, gopacket.Payload(mark))
	}
	return []probe{
		{"the internet calls a guest", "inbound", nil, func(p *probed, m []byte) {
			p.Wires[0].Say(frame(p, "up0", nettest.Router, p.g.Addr.String(), m))
		}},
		{"a neighbour calls a guest", "inbound", nil, func(p *probed, m []byte) {
			p.Wires[1].Say(frame(p, "lan0", nettest.Neighbour, p.g.Addr.String(), m))
		}},
		{"a neighbour takes the host for a router", "", nil, func(p *probed, m []byte) {
			p.Wires[1].Say(frame(p, "lan0", nettest.Neighbour, nettest.Server, m))
		}},
	}
}

// newProbed makes two guests in a world.
func newProbed(t *testing.T) *probed {
	t.Helper()
	p := &probed{World: nettest.NewWorld(t), dir: t.TempDir()}
	p.n = open(t, host.Options{Dir: p.dir, DNS: true})
	p.g, p.other = plug(t, p.n, "m-1", policy.Policy{}), plug(t, p.n, "m-2", policy.Policy{})
	return p
}

func (p *probed) allow(rules []string) {
	p.T.Helper()
	var what policy.Policy
	for _, r := range rules {
		if r == "deny" {
			what.Deny = true
			continue
		}
		rule, err := policy.Parse(r)
		if err != nil {
			p.T.Fatal(err)
		}
		what.Allow = append(what.Allow, rule)
	}
	if err := p.n.SetPolicy(p.T.Context(), "m-1", what); err != nil {
		p.T.Fatal(err)
	}
}

func (p *probed) counter(name string) uint64 {
	p.T.Helper()
	s, err := p.n.Get(p.T.Context(), "m-1")
	if err != nil {
		p.T.Fatal(err)
	}
	for _, c := range s.Counters {
		if c.Name == name {
			return c.Packets
		}
	}
	return 0
}

// result is what became of a probe: where it leaked, and whether it was
// counted where it should.
type result struct {
	leaks   []string
	counted bool
}

func (r result) good() bool { return len(r.leaks) == 0 && r.counted }

// run runs one probe. Its policy must be in force.
func (p *probed) run(pr probe) result {
	mark := p.g.Marker()
	before := p.counter(pr.counter)
	pr.send(p, mark)
	leaks := p.Leaks(p.g, mark, p.other)
	return result{leaks, pr.counter == "" || p.counter(pr.counter) > before}
}

func TestGuestsAreKeptIn(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	all := probes()
	for _, pr := range all {
		p.allow(pr.allow)
		if r := p.run(pr); !r.good() {
			t.Errorf("%s: leaks %v, counted by %q: %v", pr.name, r.leaks, pr.counter, r.counted)
		}
	}
	t.Logf("%d probes", len(all))
	if len(all) < 60 {
		t.Errorf("only %d probes", len(all))
	}
}
