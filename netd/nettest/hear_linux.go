package nettest

import (
	"bytes"
	"fmt"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Wire hears all frames that come to a namespace over its link.
type Wire struct {
	t  testing.TB
	fd int
}

func hear(t testing.TB, s *Space) *Wire {
	t.Helper()
	w := &Wire{t: t}
	s.Do(func() {
		var err error
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		link, err := net.InterfaceByName("peer0")
		must(t, err)
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8)
		must(t, unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	})
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

// heard counts the frames with a marker that came since the last call, but
// for those that the namespace itself has sent.
func (w *Wire) heard(marker []byte) (n int) {
	buf := make([]byte, 65536)
	for {
		l, from, err := unix.Recvfrom(w.fd, buf, 0)
		if err != nil {
			return n
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING && bytes.Contains(buf[:l], marker) {
			n++
		}
	}
}

// Services are what listens on all addresses of the host.
type Services struct {
	datagrams []*net.UDPConn
}

// HostPorts are the ports of the host's services, DNSPort the one that is the
// resolver's where there is one.
var HostPorts = []int{22, DNSPort, 67, 111, 631, 2375, 5353, 6443, 8080, 8099}

// DNSPort is where names are asked for.
const DNSPort = 53

func listen(t testing.TB, ports []int) *Services {
	t.Helper()
	s := &Services{}
	for _, port := range ports {
		u, err := net.ListenUDP("udp4", &net.UDPAddr{Port: port})
		must(t, err)
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: port})
		must(t, err)
		t.Cleanup(func() { u.Close(); l.Close() })
		s.datagrams = append(s.datagrams, u)
	}
	return s
}

// heard counts the datagrams with a marker that came since the last call.
func (s *Services) heard(marker []byte) (n int) {
	buf := make([]byte, 65536)
	for _, u := range s.datagrams {
		raw, err := u.SyscallConn()
		if err != nil {
			continue
		}
		raw.Read(func(fd uintptr) bool {
			for {
				l, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
				if err != nil {
					return true
				}
				if bytes.Contains(buf[:l], marker) {
					n++
				}
			}
		})
	}
	return n
}

// Say sends a frame from the other end of a link to the host's.
func (w *Wire) Say(frame []byte) {
	w.t.Helper()
	if _, err := unix.Write(w.fd, frame); err != nil {
		w.t.Fatalf("saying something on a wire: %v", err)
	}
}

// Via is the header of a frame of IPv4 to the host's end of a link.
func Via(t testing.TB, link string) *layers.Ethernet {
	t.Helper()
	l, err := net.InterfaceByName(link)
	must(t, err)
	return &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: l.HardwareAddr, EthernetType: layers.EthernetTypeIPv4}
}

// Leaks tells where a marker has arrived since the last call, and what came
// back to the guest.
func (w *World) Leaks(g *Guest, marker []byte, others ...*Guest) (where []string) {
	w.T.Helper()
	came, ok := g.Settle()
	if g.Behind != nil {
		g.Behind()
		more, still := g.Settle()
		came, ok = append(came, more...), ok && still
	}
	if !ok {
		where = append(where, "nowhere: the host does not tell the gateway's address")
	}
	for _, f := range came {
		if !g.late(f, marker) {
			where = append(where, fmt.Sprintf("an answer of %d bytes", len(f)))
		}
	}
	for i, wire := range w.Wires {
		if n := wire.heard(marker); n > 0 {
			where = append(where, fmt.Sprintf("%d frames outside by link %d", n, i))
		}
	}
	if n := w.Services.heard(marker); n > 0 {
		where = append(where, fmt.Sprintf("%d datagrams at services of the host", n))
	}
	for _, o := range others {
		came, _ := o.Settle()
		for _, f := range came {
			if bytes.Contains(f, marker) {
				where = append(where, "another guest")
			}
		}
	}
	return where
}

// late tells whether a frame belongs to what was sent before the marker, such
// as an answer that is sent again because the guest does not take it up.
func (g *Guest) late(frame, marker []byte) bool {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
		return uint16(tcp.DstPort) != g.Port()
	}
	return p.Layer(layers.LayerTypeIPv4) != nil && !bytes.Contains(frame, marker)
}
