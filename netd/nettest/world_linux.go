package nettest

import (
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// The addresses of the world. Those that no guest may reach are in the
// internet's namespace as well, where a packet that gets out arrives.
const (
	Uplink    = "198.51.100.2" // the host's
	Router    = "198.51.100.1" // the internet's end of the uplink
	Server    = "203.0.113.10"
	Resolver  = "8.8.8.8"
	Metadata  = "169.254.169.254"
	Elsewhere = "10.99.0.1" // a private network somewhere
	HostInLAN = "192.168.50.1"
	Neighbour = "192.168.50.10"
)

// outside are all addresses of the internet's namespace.
var outside = []string{
	Server, "203.0.113.11", Resolver, "9.9.9.9", Metadata, "169.254.170.2", Elsewhere, "10.0.0.1", "172.16.5.5", "172.31.255.254",
	"192.168.1.1", "100.64.0.1", "100.100.100.200", "198.18.0.1", "192.0.0.170", "240.0.0.1",
}

// World is a host with an uplink to an internet and a link to a neighbour.
type World struct {
	T             testing.TB
	Internet, LAN *Space
	// Wires hear all that leaves the host.
	Wires []*Wire
	// Services are what listens on the host.
	Services *Services
}

// NewWorld makes the world of a test that is Isolated.
func NewWorld(t testing.TB) *World {
	t.Helper()
	return newWorld(t, HostPorts)
}

func newWorld(t testing.TB, ports []int) *World {
	t.Helper()
	w := &World{T: t, Internet: NewSpace(t), LAN: NewSpace(t)}
	w.wire("up0", Uplink+"/24", w.Internet, Router+"/24")
	w.wire("lan0", HostInLAN+"/24", w.LAN, Neighbour+"/24")
	w.Internet.Do(func() {
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		for _, a := range outside {
			must(t, netlink.AddrAdd(lo, address(t, a+"/32")))
		}
		w.echo(Server, Resolver, Elsewhere)
	})
	w.LAN.Do(func() { w.echo(Neighbour) })
	must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(Router)}))
	w.Services = listen(t, ports)
	for _, s := range []*Space{w.Internet, w.LAN} {
		w.Wires = append(w.Wires, hear(t, s))
	}
	return w
}

func address(t testing.TB, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

// wire connects the host with a space.
func (w *World) wire(name, ours string, to *Space, theirs string) {
	w.T.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	must(w.T, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "peer0", PeerNamespace: netlink.NsFd(to.fd)}))
	up := func(name, addr string) {
		link, err := netlink.LinkByName(name)
		must(w.T, err)
		must(w.T, netlink.AddrAdd(link, address(w.T, addr)))
		must(w.T, netlink.LinkSetUp(link))
		// Nothing but what a test sends is on the wire.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	}
	to.Do(func() { up("peer0", theirs) })
	up(name, ours)
}

// echo answers on some ports of the given addresses, TCP and UDP, with the
// caller's address and what it said. It runs in the namespace of its thread.
func (w *World) echo(addrs ...string) {
	for _, addr := range addrs {
		for _, port := range []string{"7", "53", "443"} {
			u, err := net.ListenPacket("udp4", net.JoinHostPort(addr, port))
			must(w.T, err)
			l, err := net.Listen("tcp4", net.JoinHostPort(addr, port))
			must(w.T, err)
			w.T.Cleanup(func() { u.Close(); l.Close() })
			go answerDatagrams(u)
			go answerConnections(l)
		}
	}
}

func answerDatagrams(u net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		u.WriteTo(append([]byte(from.String()+" "), buf[:n]...), from)
	}
}

func answerConnections(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 65536)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				c.Write(append([]byte(c.RemoteAddr().String()+" "), buf[:n]...))
			}
		}()
	}
}
