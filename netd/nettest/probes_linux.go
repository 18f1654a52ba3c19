package nettest

import (
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// Probe is something that a guest, or somebody else, must not get through.
type Probe struct {
	Name string
	// Counter is what counts it.
	Counter string
	// Allow is the policy, which allows as much as a policy can beside what is
	// probed, so that nothing else stands in the way.
	Allow []string
	// Send sends what is probed; mark is in it.
	Send func(p *Probed, mark []byte)
}

// Probed is where probes run.
type Probed struct {
	*World
	// N is the network of the guests.
	N netd.Network
	// G is the guest that probes, Other another one.
	G, Other *Guest
}

var stranger = net.HardwareAddr{0x02, 1, 2, 3, 4, 5}

// Wide opens all networks that a rule can open.
var Wide = []string{"internet", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", "192.0.0.0/24"}

// Sends has a guest send one frame.
func Sends(send func(g *Guest, mark []byte) []byte) func(*Probed, []byte) {
	return func(p *Probed, mark []byte) { p.G.Send(send(p.G, mark)) }
}

func udp(addr string, port int) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte { return g.UDP(addr, port, mark) })
}

// SendTCP begins a connection.
func SendTCP(addr string, port int) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte { return g.SYN(addr, port, mark) })
}

func ping(addr string) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte { return g.Ping(addr, mark) })
}

// Probes are all of them; hostProbes and the like are generated, as they
// differ in one number only.
func Probes() []Probe {
	all := hostProbes()
	all = append(all, wanProbes()...)
	return append(all, wireProbes()...)
}

func hostProbes() (all []Probe) {
	add := func(name string, send func(*Probed, []byte)) { all = append(all, Probe{name, "host", Wide, send}) }
	for _, port := range HostPorts {
		if port == 53 {
			continue // names are answered there
		}
		add(fmt.Sprintf("host, gateway, udp %d", port), gateway(port, (*Guest).UDP))
		add(fmt.Sprintf("host, gateway, tcp %d", port), gateway(port, (*Guest).SYN))
	}
	for name, addr := range map[string]string{"uplink": Uplink, "lan": HostInLAN} {
		add("host, "+name+" address, tcp", SendTCP(addr, 22))
		add("host, "+name+" address, udp", udp(addr, 8080))
		add("host, "+name+" address, ping", ping(addr))
	}
	add("host, gateway, ping", Sends(func(g *Guest, mark []byte) []byte { return g.Ping(g.Gateway.String(), mark) }))
	add("host, fragmented datagram", fragments)
	add("host, limited broadcast at its own address", udp("255.255.255.255", 67))
	add("host, all hosts of the link at its own address", udp("224.0.0.1", 5353))
	add("host, protocol without ports", Sends(func(g *Guest, mark []byte) []byte {
		return Frame(g.Ether(), g.IP(g.Gateway.String(), layers.IPProtocolGRE), gopacket.Payload(mark))
	}))
	return all
}

// gateway sends to a port of the host where the guest knows it.
func gateway(port int, frame func(*Guest, string, int, []byte) []byte) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte { return frame(g, g.Gateway.String(), port, mark) })
}

// fragments sends a datagram for a service of the host in two parts, the first
// of which is too short for its header.
func fragments(p *Probed, mark []byte) {
	whole := p.G.UDP(p.G.Gateway.String(), 8080, append(make([]byte, 64), mark...))
	body := whole[14+20:]
	for at, part := range map[int][]byte{0: body[:8], 1: body[8:]} {
		ip := p.G.IP(p.G.Gateway.String(), layers.IPProtocolUDP)
		ip.FragOffset = uint16(at)
		if at == 0 {
			ip.Flags = layers.IPv4MoreFragments
		}
		p.G.Send(Frame(p.G.Ether(), ip, gopacket.Payload(part)))
	}
}

func wanProbes() (all []Probe) {
	for name, addr := range map[string]string{
		"metadata of clouds": Metadata, "metadata of containers": "169.254.170.2",
	} {
		all = append(all, Probe{name + ", tcp", "link-local", Wide, SendTCP(addr, 443)}, Probe{name + ", udp", "link-local", Wide, udp(addr, 443)})
	}
	all = append(all,
		Probe{"reserved addresses", "reserved", Wide, udp("240.0.0.1", 443)},
		Probe{"another guest, udp", "guests", Wide, func(p *Probed, m []byte) { p.G.Send(p.G.UDP(p.Other.Addr.String(), 7, m)) }},
		Probe{"another guest, tcp", "guests", Wide, func(p *Probed, m []byte) { p.G.Send(p.G.SYN(p.Other.Addr.String(), 22, m)) }},
		Probe{"another guest, ping", "guests", Wide, func(p *Probed, m []byte) { p.G.Send(p.G.Ping(p.Other.Addr.String(), m)) }},
		Probe{"an address that may become a guest's", "guests", Wide, udp("10.214.0.9", 7)})
	for _, addr := range []string{
		Neighbour, Elsewhere, "10.0.0.1", "172.16.5.5", "172.31.255.254", "192.168.1.1",
		"100.64.0.1", "100.100.100.200", "198.18.0.1", "192.0.0.170",
	} {
		all = append(all, Probe{"private network, tcp " + addr, "private", nil, SendTCP(addr, 443)},
			Probe{"private network and a wide rule, udp " + addr, "private", []string{"0.0.0.0/0"}, udp(addr, 443)})
	}
	for _, addr := range []string{Resolver, "9.9.9.9"} {
		all = append(all, Probe{"another resolver, udp " + addr, "resolver", nil, udp(addr, 53)},
			Probe{"another resolver, tcp " + addr, "resolver", nil, SendTCP(addr, 53)},
			Probe{"another resolver, tls " + addr, "resolver", nil, SendTCP(addr, 853)})
	}
	return append(all,
		Probe{"another port than the one allowed", "egress", []string{Server + ":443"}, SendTCP(Server, 7)},
		Probe{"a protocol without the port that is allowed", "egress", []string{Server + ":443"}, ping(Server)},
		Probe{"an address beside the one allowed", "egress", []string{Server}, udp("203.0.113.11", 443)},
		Probe{"what a name has not resolved to", "egress", []string{"example.com"}, SendTCP(Server, 443)},
		Probe{"anything when all is denied", "egress", []string{"deny"}, udp(Server, 443)},
	)
}

// wireProbes are of frames that are not what the guest may send at all.
func wireProbes() []Probe {
	return []Probe{
		{"another hardware address", "mac", nil, Sends(func(g *Guest, m []byte) []byte {
			e := g.Ether()
			e.SrcMAC = stranger
			return Frame(e, g.IP(Server, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 7}, gopacket.Payload(m))
		})},
		{"arp with another hardware address", "arp-mac", nil, Sends(func(g *Guest, _ []byte) []byte {
			return g.ARP(stranger, g.Addr.String(), g.Gateway.String())
		})},
		{"arp for another guest", "arp-ip", nil, func(p *Probed, _ []byte) {
			p.G.Send(p.G.ARP(p.G.MAC, p.Other.Addr.String(), p.G.Gateway.String()))
		}},
		{"arp as the gateway", "arp-ip", nil, Sends(func(g *Guest, _ []byte) []byte {
			return g.ARP(g.MAC, g.Gateway.String(), g.Gateway.String())
		})},
		{"arp for the host's other address", "arp-target", nil, Sends(func(g *Guest, _ []byte) []byte {
			return g.ARP(g.MAC, g.Addr.String(), Uplink)
		})},
		{"another guest's address", "ip", nil, func(p *Probed, m []byte) { p.G.Send(Spoofed(p.G, p.Other.Addr.String(), m)) }},
		{"a neighbour's address", "ip", nil, Sends(func(g *Guest, m []byte) []byte { return Spoofed(g, Neighbour, m) })},
		{"the gateway's address", "ip", nil, Sends(func(g *Guest, m []byte) []byte { return Spoofed(g, g.Gateway.String(), m) })},
		{"a public address", "ip", nil, Sends(func(g *Guest, m []byte) []byte { return Spoofed(g, Server, m) })},
		{"no address, as dhcp has it", "ip", nil, Sends(func(g *Guest, m []byte) []byte { return Spoofed(g, "0.0.0.0", m) })},
		{"broadcast", "broadcast", nil, Sends(func(g *Guest, m []byte) []byte {
			return toMAC(g, layers.EthernetBroadcast, "255.255.255.255", m)
		})},
		{"multicast dns", "broadcast", nil, Sends(func(g *Guest, m []byte) []byte {
			return toMAC(g, net.HardwareAddr{1, 0, 0x5e, 0, 0, 251}, "224.0.0.251", m)
		})},
		{"another machine on the link", "broadcast", nil, Sends(func(g *Guest, m []byte) []byte { return toMAC(g, stranger, Server, m) })},
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

// Spoofed is a datagram to the server from an address.
func Spoofed(g *Guest, addr string, mark []byte) []byte {
	ip := g.IP(Server, layers.IPProtocolUDP)
	ip.SrcIP = net.ParseIP(addr).To4()
	return Frame(g.Ether(), ip, &layers.UDP{SrcPort: 1, DstPort: 7}, gopacket.Payload(mark))
}

func toMAC(g *Guest, mac net.HardwareAddr, addr string, mark []byte) []byte {
	e := g.Ether()
	e.DstMAC = mac
	return Frame(e, g.IP(addr, layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 5353}, gopacket.Payload(mark))
}

func ipv6(kind uint8) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte {
		e := g.Ether()
		e.EthernetType, e.DstMAC = layers.EthernetTypeIPv6, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}
		return Frame(e,
			&layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::2"), DstIP: net.ParseIP("ff02::1")},
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}, gopacket.Payload(append(make([]byte, 12), mark...)))
	})
}

func kind(t layers.EthernetType) func(*Probed, []byte) {
	return Sends(func(g *Guest, mark []byte) []byte {
		e := g.Ether()
		e.EthernetType = t
		return Frame(e, gopacket.Payload(append(make([]byte, 60), mark...)))
	})
}

// redirect tells the host that there is a better way to the server.
func redirect(p *Probed, mark []byte) {
	inner := Frame(p.G.IP(p.G.Gateway.String(), layers.IPProtocolUDP), &layers.UDP{SrcPort: 1, DstPort: 7})
	p.G.Send(Frame(p.G.Ether(), p.G.IP(p.G.Gateway.String(), layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeRedirect, 1)}, gopacket.Payload(append(inner, mark...))))
}

// StrangerProbes are of others than the guest, who speak to it where the host
// routes to it: a network without taps has no such way.
func StrangerProbes() []Probe {
	frame := func(p *Probed, link, src, dst string, mark []byte) []byte {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src).To4(), DstIP: net.ParseIP(dst).To4()}
		return Frame(Via(p.T, link), ip, &layers.UDP{SrcPort: 9, DstPort: 9}, gopacket.Payload(mark))
	}
	return []Probe{
		{"the internet calls a guest", "inbound", nil, func(p *Probed, m []byte) {
			p.Wires[0].Say(frame(p, "up0", Router, p.G.Addr.String(), m))
		}},
		{"a neighbour calls a guest", "inbound", nil, func(p *Probed, m []byte) {
			p.Wires[1].Say(frame(p, "lan0", Neighbour, p.G.Addr.String(), m))
		}},
		{"a neighbour takes the host for a router", "", nil, func(p *Probed, m []byte) {
			p.Wires[1].Say(frame(p, "lan0", Neighbour, Server, m))
		}},
	}
}

// NewProbed makes two guests of a network in a world: first m-1, which probes,
// then m-2.
func NewProbed(w *World, n netd.Network) *Probed {
	w.T.Helper()
	p := &Probed{World: w, N: n}
	join := func(machine string) *Guest {
		_, err := n.Attach(w.T.Context(), machine, policy.Policy{})
		must(w.T, err)
		return plug(w.T, n, machine)
	}
	p.G = join("m-1")
	p.Other = join("m-2")
	return p
}

// Allow puts the policy of a probe in force.
func (p *Probed) Allow(rules []string) {
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
	if err := p.N.SetPolicy(p.T.Context(), "m-1", what); err != nil {
		p.T.Fatal(err)
	}
}

// Counter is what was counted for the guest under a name.
func (p *Probed) Counter(name string) uint64 {
	p.T.Helper()
	s, err := p.N.Get(p.T.Context(), "m-1")
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

// Result is what became of a probe: where it leaked, and whether it was
// counted where it should.
type Result struct {
	Leaks   []string
	Counted bool
}

// Good tells whether nothing got through, and that was counted.
func (r Result) Good() bool { return len(r.Leaks) == 0 && r.Counted }

// Run runs one probe. Its policy must be in force.
func (p *Probed) Run(pr Probe) Result {
	mark := p.G.Marker()
	before := p.Counter(pr.Counter)
	pr.Send(p, mark)
	leaks := p.Leaks(p.G, mark, p.Other)
	return Result{leaks, pr.Counter == "" || p.Counter(pr.Counter) > before}
}

// KeptIn runs probes, of which none may get through.
func (p *Probed) KeptIn(all []Probe) {
	for _, pr := range all {
		p.Allow(pr.Allow)
		if r := p.Run(pr); !r.Good() {
			p.T.Errorf("%s: leaks %v, counted by %q: %v", pr.Name, r.Leaks, pr.Counter, r.Counted)
		}
	}
	p.T.Logf("%d probes", len(all))
	if len(all) < 60 {
		p.T.Errorf("only %d probes", len(all))
	}
}

// Get tries what must work.
func (p *Probed) Get(all []Want) {
	for _, w := range all {
		p.Allow(w.Allow)
		if !w.Works(p) {
			p.T.Errorf("%s does not work", w.Name)
		}
	}
}
