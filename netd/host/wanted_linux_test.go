package host_test

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/nft"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// wanted is something that must work.
type wanted struct {
	name  string
	allow []string
	works func(p *probed) bool
}

// soon is how long an answer may take that is expected.
const soon = time.Second

// answered tells whether what a guest says comes back with what it has said.
func answered(frame func(g *nettest.Guest, mark []byte) []byte) func(*probed) bool {
	return func(p *probed) bool {
		mark := p.g.Marker()
		p.g.Send(frame(p.g, mark))
		return p.g.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) }) != nil
	}
}

func udpTo(addr string, port int) func(*probed) bool {
	return answered(func(g *nettest.Guest, mark []byte) []byte { return g.UDP(addr, port, mark) })
}

// accepted tells whether a connection is.
func accepted(addr string, port int) func(*probed) bool {
	return func(p *probed) bool {
		p.g.Marker()
		p.g.Send(p.g.SYN(addr, port, nil))
		return p.g.Within(soon, func(f []byte) bool {
			tcp, ok := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeTCP).(*layers.TCP)
			return ok && tcp.SYN && tcp.ACK && uint16(tcp.DstPort) == p.g.Port()
		}) != nil
	}
}

var wants = []wanted{
	{"udp to the internet", nil, udpTo(nettest.Server, 7)},
	{"tcp to the internet", nil, accepted(nettest.Server, 443)},
	{"ping to the internet", nil, answered(func(g *nettest.Guest, mark []byte) []byte { return g.Ping(nettest.Server, mark) })},
	{"a public address that is named", []string{nettest.Server}, udpTo(nettest.Server, 443)},
	{"a port that is named, udp", []string{nettest.Server + ":443"}, udpTo(nettest.Server, 443)},
	{"a port that is named, tcp", []string{nettest.Server + ":443"}, accepted(nettest.Server, 443)},
	{"a resolver that is named", []string{nettest.Resolver + ":53"}, udpTo(nettest.Resolver, 53)},
	{"a neighbour that is named", []string{nettest.Neighbour + ":7"}, udpTo(nettest.Neighbour, 7)},
	{"a private network that is named", []string{"10.99.0.0/16"}, accepted(nettest.Elsewhere, 443)},
	{"a name", []string{"example.com"}, named("example.com", 443)},
	{"a name with a port", []string{"*.example.com:443"}, named("www.example.com", 443)},
	{"a name for as long as it is used", []string{"example.com"}, refreshed("pins-aegis0", "example.com", 7)},
	{"a name with a port for as long as it is used", []string{"*.example.com:443"}, refreshed("port-pins-aegis0", "www.example.com", 443)},
	{"a service of the host that is named", nil, hostService},
	{"names at the gateway", nil, func(p *probed) bool { return fromHost(p, 53) }},
	{"the host calls a guest", nil, hostCalls},
	{"a large datagram in fragments", nil, large},
	{"so many connections and no more", nil, flood}, // last: it leaves no room
}

func named(name string, port int) func(*probed) bool {
	return func(p *probed) bool {
		if err := p.n.Pin(p.T.Context(), "m-1", name, []netip.Addr{netip.MustParseAddr(nettest.Server)}, time.Minute); err != nil {
			p.T.Fatal(err)
		}
		return udpTo(nettest.Server, port)(p)
	}
}

// refreshed tells whether a pin's time begins anew when it is used, which
// shows where it was longer before.
func refreshed(set, name string, port int) func(*probed) bool {
	return func(p *probed) bool {
		if err := p.n.Pin(p.T.Context(), "m-1", name, []netip.Addr{netip.MustParseAddr(nettest.Server)}, 23*time.Hour); err != nil {
			p.T.Fatal(err)
		}
		mark := p.g.Marker()
		for range 2 { // the second one is of a connection that is known
			p.g.Send(p.g.UDP(nettest.Server, port, mark))
			p.g.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) })
		}
		c, err := nftables.New()
		if err != nil {
			p.T.Fatal(err)
		}
		inet := &nftables.Table{Name: "aegis", Family: nftables.TableFamilyINet}
		elements, err := c.GetSetElements(&nftables.Set{Table: inet, Name: set})
		return err == nil && len(elements) == 1 && elements[0].Expires <= nft.PinLife && elements[0].Comment == name
	}
}

func hostService(p *probed) bool {
	if err := p.n.SetPolicy(p.T.Context(), "m-1", policy.Policy{HostPorts: []uint16{8080}}); err != nil {
		p.T.Fatal(err)
	}
	return fromHost(p, 8080)
}

// fromHost tells whether a datagram reaches a service of the host.
func fromHost(p *probed, port int) bool {
	mark := p.g.Marker()
	p.g.Send(p.g.UDP(p.g.Gateway.String(), port, mark))
	return len(p.Leaks(p.g, mark)) == 1
}

// hostCalls sends from the host to a guest and back.
func hostCalls(p *probed) bool {
	c, err := net.Dial("udp4", net.JoinHostPort(p.g.Addr.String(), "9"))
	if err != nil {
		p.T.Fatal(err)
	}
	defer c.Close()
	mark := p.g.Marker()
	if _, err := c.Write(mark); err != nil {
		p.T.Fatal(err)
	}
	came := p.g.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) })
	if came == nil {
		return false
	}
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	n, _ := strconv.Atoi(port)
	p.g.Send(nettest.Frame(p.g.Ether(), p.g.IP(p.g.Gateway.String(), layers.IPProtocolUDP),
		&layers.UDP{SrcPort: 9, DstPort: layers.UDPPort(n)}, gopacket.Payload(mark)))
	c.SetReadDeadline(time.Now().Add(soon))
	buf := make([]byte, 100)
	got, err := c.Read(buf)
	return err == nil && bytes.Equal(buf[:got], mark)
}

// flood begins more connections than a guest may have.
func flood(p *probed) bool {
	before := p.counter("flood")
	for range 4200 {
		p.g.Marker()
		p.g.Send(p.g.UDP("203.0.113.11", 9, nil))
	}
	return p.counter("flood") > before
}

// large sends more than a frame holds, in two.
func large(p *probed) bool {
	mark := p.g.Marker()
	whole := p.g.UDP(nettest.Server, 7, append(mark, make([]byte, 2000)...))[14+20:]
	first := p.g.IP(nettest.Server, layers.IPProtocolUDP)
	first.Flags = layers.IPv4MoreFragments
	second := p.g.IP(nettest.Server, layers.IPProtocolUDP)
	second.FragOffset = 1400 / 8
	p.g.Send(nettest.Frame(p.g.Ether(), first, gopacket.Payload(whole[:1400])))
	p.g.Send(nettest.Frame(p.g.Ether(), second, gopacket.Payload(whole[1400:])))
	return p.g.Within(soon, func(f []byte) bool { return bytes.Contains(f, mark) }) != nil
}

func TestGuestsGetWhatTheyMay(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	p := newProbed(t)
	for _, w := range wants {
		p.allow(w.allow)
		if !w.works(p) {
			t.Errorf("%s does not work", w.name)
		}
	}
}
