package stack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// Sizes on the link: of the length before each frame, of the largest frame
// that a monitor sends, and of what is read and written at once.
const (
	lengthSize = 4
	maxFrame   = 68 << 10
	linkBuffer = 256 << 10
)

// read takes frames until the link ends. One that is longer than a frame can
// be says that we have lost the thread, so the link is given up.
func (s *Stack) read() {
	r := bufio.NewReaderSize(s.config.Link, linkBuffer)
	buf := make([]byte, maxFrame)
	for {
		var length [lengthSize]byte
		if _, err := io.ReadFull(r, length[:]); err != nil {
			s.linkEnded(err)
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > maxFrame {
			s.config.Log.Error("the monitor sends a frame that is too long", "bytes", n)
			return
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			s.linkEnded(err)
			return
		}
		s.take(buf[:n])
	}
}

func (s *Stack) linkEnded(err error) {
	if s.ctx.Err() == nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.config.Log.Info("the link to the monitor has ended", "error", err)
	}
}

// take deals with one frame, whose bytes are the caller's.
func (s *Stack) take(b []byte) {
	if len(b) < header.EthernetMinimumSize {
		s.deny(policy.DropEtherType, len(b))
		return
	}
	f := frame{b, s.config.Guest, s.config.Gateway}
	if why := refusedBy(wire[:], f); why != "" {
		s.deny(why, len(b))
		return
	}
	if f.isARP() {
		if answer := answerARP(f.arp()); answer != nil {
			s.emit(header.ARPProtocolNumber, answer)
		}
		return
	}
	s.packet(f.ip())
}

// packet deals with one packet that the guest may send. Only connections and
// datagrams go to the stack, and only those to one address: what it would
// answer by itself is not its business.
func (s *Stack) packet(ip header.IPv4) {
	ip = ip[:ip.TotalLength()]
	protocol, to := ip.Protocol(), address(ip.DestinationAddress())
	ported := protocol == policy.TCP || protocol == policy.UDP
	switch first := to.As4()[0]; {
	case ported && first != 0 && first != 127 && first < 224:
		p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(ip)})
		s.out.InjectInbound(header.IPv4ProtocolNumber, p)
		p.DecRef()
	case protocol == uint8(header.ICMPv4ProtocolNumber) && s.echo(to, ip):
	default:
		s.refuse(protocol, netip.AddrPortFrom(to, portOf(ip, ported)), len(ip))
	}
}

// portOf is the destination port of a packet, 0 where it has none.
func portOf(ip header.IPv4, ported bool) uint16 {
	if b := ip.Payload(); ported && ip.FragmentOffset() == 0 && len(b) >= 4 {
		return binary.BigEndian.Uint16(b[2:])
	}
	return 0
}

// emit sends a packet of ours to the guest.
func (s *Stack) emit(protocol tcpip.NetworkProtocolNumber, body []byte) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(body)})
	p.NetworkProtocolNumber = protocol
	var list stack.PacketBufferList
	list.PushBack(p)
	s.out.WritePackets(list) // one that finds no room is lost, as on any link
	p.DecRef()
}

// write gives frames to the monitor until the stack or the link ends, as many
// at once as there are.
func (s *Stack) write() {
	buf := make([]byte, 0, linkBuffer)
	for {
		p := s.out.ReadContext(s.ctx)
		if p == nil {
			return
		}
		buf = buf[:0]
		for p != nil {
			buf = appendFrame(buf, p)
			p.DecRef()
			if len(buf)+maxFrame > cap(buf) {
				break
			}
			p = s.out.Read()
		}
		if _, err := s.config.Link.Write(buf); err != nil {
			s.linkEnded(err)
			return
		}
	}
}

// appendFrame adds a packet as a frame for the guest, behind its length.
func appendFrame(buf []byte, p *stack.PacketBuffer) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(header.EthernetMinimumSize+p.Size()))
	buf = append(buf, netd.GuestMAC[:]...)
	buf = append(buf, netd.GatewayMAC[:]...)
	buf = binary.BigEndian.AppendUint16(buf, uint16(p.NetworkProtocolNumber))
	for _, part := range p.AsSlices() {
		buf = append(buf, part...)
	}
	return buf
}
