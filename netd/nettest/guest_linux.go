package nettest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// patience ends a test that would wait for ever.
const patience = 3 * time.Second

// virtioHeader is what comes before each frame on a tap of ours.
const virtioHeader = 10

// Guest is the other side of a tap: whatever it is told to send, it sends.
type Guest struct {
	t testing.TB
	f *os.File
	// MAC and Addr are the guest's, Peer and Gateway the host's.
	MAC, Peer     net.HardwareAddr
	Addr, Gateway netip.Addr
	// Behind, if set, waits for what comes of a frame that was taken already.
	Behind func()
	frames chan []byte
	marks  int
	id     uint32 // no other guest with this address has it
}

// NewGuest reads from a tap until the test ends.
func NewGuest(t testing.TB, f *os.File, mac, peer net.HardwareAddr, addr, gateway netip.Addr) *Guest {
	g := &Guest{t: t, f: f, MAC: mac, Peer: peer, Addr: addr, Gateway: gateway, frames: make(chan []byte, 4096), id: rand.Uint32()}
	t.Cleanup(func() { f.Close() })
	go func() { // ends with the tap
		defer close(g.frames)
		for {
			buf := make([]byte, 65536+virtioHeader)
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			g.frames <- buf[virtioHeader:n]
		}
	}()
	return g
}

// Send sends a frame as it is.
func (g *Guest) Send(frame []byte) {
	g.t.Helper()
	if _, err := g.f.Write(append(make([]byte, virtioHeader), frame...)); err != nil {
		g.t.Fatalf("a guest sends: %v", err)
	}
}

// Port is where the guest sends from: another one since each Marker.
func (g *Guest) Port() uint16 { return uint16(20000 + g.marks%40000) }

// Marker is a text that no frame has had.
func (g *Guest) Marker() []byte {
	g.marks++
	return fmt.Appendf(nil, "<%s %x marker %d>", g.Addr, g.id, g.marks)
}

// Frame makes a frame of layers; lengths and checksums are right.
func Frame(all ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	var ip gopacket.NetworkLayer
	for _, l := range all {
		switch l := l.(type) {
		case *layers.IPv4:
			ip = l
		case *layers.IPv6:
			ip = l
		case *layers.UDP:
			_ = l.SetNetworkLayerForChecksum(ip)
		case *layers.TCP:
			_ = l.SetNetworkLayerForChecksum(ip)
		case *layers.ICMPv6:
			_ = l.SetNetworkLayerForChecksum(ip)
		}
	}
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Ether is the header of a frame of IPv4 to the host.
func (g *Guest) Ether() *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: g.MAC, DstMAC: g.Peer, EthernetType: layers.EthernetTypeIPv4}
}

// IP is the header of a packet of the guest.
func (g *Guest) IP(to string, protocol layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: uint16(g.marks), SrcIP: g.Addr.AsSlice(), DstIP: net.ParseIP(to).To4(), Protocol: protocol}
}

// UDP is a datagram to an address.
func (g *Guest) UDP(to string, port int, payload []byte) []byte {
	return Frame(g.Ether(), g.IP(to, layers.IPProtocolUDP),
		&layers.UDP{SrcPort: layers.UDPPort(g.Port()), DstPort: layers.UDPPort(port)}, gopacket.Payload(payload))
}

// SYN is the beginning of a connection, which already carries something.
func (g *Guest) SYN(to string, port int, payload []byte) []byte {
	return Frame(g.Ether(), g.IP(to, layers.IPProtocolTCP),
		&layers.TCP{SrcPort: layers.TCPPort(g.Port()), DstPort: layers.TCPPort(port), SYN: true, Seq: 1, Window: 1024}, gopacket.Payload(payload))
}

// Ping is an echo request.
func (g *Guest) Ping(to string, payload []byte) []byte {
	return Frame(g.Ether(), g.IP(to, layers.IPProtocolICMPv4),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: 1, Seq: uint16(g.marks)},
		gopacket.Payload(payload))
}

// ARP is a question for an address.
func (g *Guest) ARP(mac net.HardwareAddr, from, to string) []byte {
	return Frame(&layers.Ethernet{SrcMAC: g.MAC, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation: layers.ARPRequest, SourceHwAddress: mac, SourceProtAddress: net.ParseIP(from).To4(),
			DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(to).To4(),
		})
}

// Settle waits until the host has dealt with all that was sent, and returns
// the frames that came meanwhile: the answer to a question that is always
// allowed comes behind them.
func (g *Guest) Settle() (came [][]byte, ok bool) {
	g.t.Helper()
	g.Send(g.ARP(g.MAC, g.Addr.String(), g.Gateway.String()))
	answer := g.Within(patience, func(frame []byte) bool {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
		a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
		if ok && a.Operation == layers.ARPReply && net.IP(a.SourceProtAddress).Equal(g.Gateway.AsSlice()) && bytes.Equal(a.DstHwAddress, g.MAC) {
			return true
		}
		came = append(came, frame)
		return false
	})
	return came, answer != nil
}

// Await takes frames until one is as wanted.
func (g *Guest) Await(what string, wanted func([]byte) bool) []byte {
	g.t.Helper()
	f := g.Within(patience, wanted)
	if f == nil {
		g.t.Fatalf("%s did not come within %v", what, patience)
	}
	return f
}

// Within is Await that gives nil when it does not come in time.
func (g *Guest) Within(limit time.Duration, wanted func([]byte) bool) []byte {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case f, ok := <-g.frames:
			if !ok || wanted(f) {
				return f
			}
		case <-timer.C:
			return nil
		}
	}
}
