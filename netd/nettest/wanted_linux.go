package nettest

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// Want is something that must work.
type Want struct {
	Name  string
	Allow []string
	Works func(p *Probed) bool
}

// soon is how long an answer may take that is expected.
const soon = time.Second

// answered tells whether what a guest says comes back with what it has said.
func answered(frame func(g *Guest, mark []byte) []byte) func(*Probed) bool {
	return func(p *Probed) bool {
		mark := p.G.Marker()
		p.G.Send(frame(p.G, mark))
		return p.G.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) }) != nil
	}
}

// UDPTo tells whether a datagram is answered.
func UDPTo(addr string, port int) func(*Probed) bool {
	return answered(func(g *Guest, mark []byte) []byte { return g.UDP(addr, port, mark) })
}

// accepted tells whether a connection is.
func accepted(addr string, port int) func(*Probed) bool {
	return func(p *Probed) bool {
		p.G.Marker()
		p.G.Send(p.G.SYN(addr, port, nil))
		return p.G.Within(soon, func(f []byte) bool {
			tcp, ok := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeTCP).(*layers.TCP)
			return ok && tcp.SYN && tcp.ACK && uint16(tcp.DstPort) == p.G.Port()
		}) != nil
	}
}

// Wants are all of them. The last one leaves no room for others.
var Wants = []Want{
	{"udp to the internet", nil, UDPTo(Server, 7)},
	{"tcp to the internet", nil, accepted(Server, 443)},
	{"ping to the internet", nil, answered(func(g *Guest, mark []byte) []byte { return g.Ping(Server, mark) })},
	{"a public address that is named", []string{Server}, UDPTo(Server, 443)},
	{"a port that is named, udp", []string{Server + ":443"}, UDPTo(Server, 443)},
	{"a port that is named, tcp", []string{Server + ":443"}, accepted(Server, 443)},
	{"a resolver that is named", []string{Resolver + ":53"}, UDPTo(Resolver, 53)},
	{"a neighbour that is named", []string{Neighbour + ":7"}, UDPTo(Neighbour, 7)},
	{"a private network that is named", []string{"10.99.0.0/16"}, accepted(Elsewhere, 443)},
	{"a name", []string{"example.com"}, named("example.com", 443)},
	{"a name with a port", []string{"*.example.com:443"}, named("www.example.com", 443)},
	{"a service of the host that is named", nil, hostService},
	{"names at the gateway", nil, func(p *Probed) bool { return fromHost(p, 53) }},
	{"a large datagram in fragments", nil, large},
	{"so many connections and no more", nil, flood}, // last: it leaves no room
}

func named(name string, port int) func(*Probed) bool {
	return func(p *Probed) bool {
		if err := p.N.Pin(p.T.Context(), "m-1", name, []netip.Addr{netip.MustParseAddr(Server)}, time.Minute); err != nil {
			p.T.Fatal(err)
		}
		return UDPTo(Server, port)(p)
	}
}

func hostService(p *Probed) bool {
	if err := p.N.SetPolicy(p.T.Context(), "m-1", policy.Policy{HostPorts: []uint16{8080}}); err != nil {
		p.T.Fatal(err)
	}
	return fromHost(p, 8080)
}

// fromHost tells whether a datagram reaches a service of the host.
func fromHost(p *Probed, port int) bool {
	mark := p.G.Marker()
	p.G.Send(p.G.UDP(p.G.Gateway.String(), port, mark))
	return len(p.Leaks(p.G, mark)) == 1
}

// HostCalls sends from the host to a guest and back, where the host routes to
// it.
func HostCalls(p *Probed) bool {
	c, err := net.Dial("udp4", net.JoinHostPort(p.G.Addr.String(), "9"))
	if err != nil {
		p.T.Fatal(err)
	}
	defer c.Close()
	mark := p.G.Marker()
	if _, err := c.Write(mark); err != nil {
		p.T.Fatal(err)
	}
	came := p.G.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) })
	if came == nil {
		return false
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	n, _ := strconv.Atoi(port)
	p.G.Send(Frame(p.G.Ether(), p.G.IP(p.G.Gateway.String(), layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 9, DstPort: layers.UDPPort(n)}, gopacket.Payload(mark)))
	c.SetReadDeadline(time.Now().Add(soon))
	buf := make([]byte, 100)
	got, err := c.Read(buf)
	return err == nil && bytes.Equal(buf[:got], mark)
}

// flood begins more connections than a guest may have.
func flood(p *Probed) bool {
	before := p.Counter("flood")
	for range 4200 {
		p.G.Marker()
		p.G.Send(p.G.UDP("203.0.113.11", 9, nil))
	}
	return p.Counter("flood") > before
}

// large sends more than a frame holds, in two.
func large(p *Probed) bool {
	mark := p.G.Marker()
	whole := p.G.UDP(Server, 7, append(mark, make([]byte, 2000)...))[14+20:]
	first := p.G.IP(Server, layers.IPProtocolUDP)
	first.Flags = layers.IPv4MoreFragments
	second := p.G.IP(Server, layers.IPProtocolUDP)
	second.FragOffset = 1400 / 8
	p.G.Send(Frame(p.G.Ether(), first, gopacket.Payload(whole[:1400])))
	p.G.Send(Frame(p.G.Ether(), second, gopacket.Payload(whole[1400:])))
	return p.G.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) }) != nil
}
