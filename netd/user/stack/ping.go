package stack

import (
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// pingKey is what tells pings apart.
type pingKey struct {
	to    netip.Addr
	ident uint16
}

// ping is one program of the guest that pings one address.
type ping struct {
	waiting [][]byte // before it is open; nil afterwards
	outside stream
	out     syscall.RawConn
}

// maxWaiting is how many requests wait until the way is open.
const maxWaiting = 8

func (p *ping) close() {
	if p.outside != nil {
		p.outside.Close()
	}
}

// echo carries a request, and tells whether the packet is one.
func (s *Stack) echo(to netip.Addr, ip header.IPv4) bool {
	m := header.ICMPv4(ip.Payload())
	if len(m) < header.ICMPv4MinimumSize || m.Type() != header.ICMPv4Echo || ip.More() || ip.FragmentOffset() != 0 || to == s.config.Gateway {
		return false
	}
	key, body := pingKey{to, m.Ident()}, append([]byte(nil), m...)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pings[key]
	switch {
	case s.ctx.Err() != nil:
	case p == nil && !s.flows.enter():
		s.deny(policy.DropFlood, len(ip))
	case p == nil:
		s.pings[key] = &ping{waiting: [][]byte{body}}
		size := len(ip)
		s.tasks.Go(func() {
			defer s.flows.leave()
			s.carry(key, size)
		})
	case p.out != nil:
		if ask.Send(p.out, body) != nil {
			p.close()
		}
	case len(p.waiting) < maxWaiting:
		p.waiting = append(p.waiting, body)
	}
	return true
}

// carry opens the way to an address and brings the answers, until whoever
// opened it ends it.
func (s *Stack) carry(key pingKey, size int) {
	outside, _ := s.dial(ask.Question{
		Op: ask.Open, Protocol: uint8(header.ICMPv4ProtocolNumber), To: netip.AddrPortFrom(key.to, 0), From: key.ident, Size: size,
	})
	out := s.opened(key, outside)
	if out == nil {
		return
	}
	answer := func(b []byte) error {
		s.answer(key, b)
		return nil
	}
	for ask.Receive(out, true, answer) == nil {
	}
	s.mu.Lock()
	delete(s.pings, key)
	s.mu.Unlock()
	outside.Close()
}

// opened sends what has waited. Without a way nothing is left of the ping.
func (s *Stack) opened(key pingKey, outside stream) (out syscall.RawConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pings[key]
	if raw, ok := outside.(syscall.Conn); ok && s.ctx.Err() == nil {
		if r, err := raw.SyscallConn(); err == nil {
			out = r
		}
	}
	if out == nil {
		delete(s.pings, key)
		if outside != nil {
			outside.Close()
		}
		return nil
	}
	p.outside, p.out = outside, out
	for _, body := range p.waiting {
		_ = ask.Send(out, body) // the next one tells
	}
	p.waiting = nil
	return out
}

// answer gives an answer to the guest, under the number that it has asked by:
// the host's kernel has put its own there.
func (s *Stack) answer(key pingKey, b []byte) {
	if len(b) < header.ICMPv4MinimumSize || len(b)+header.IPv4MinimumSize > s.config.MTU {
		return
	}
	packet := make([]byte, header.IPv4MinimumSize+len(b))
	ip, m := header.IPv4(packet), header.ICMPv4(packet[header.IPv4MinimumSize:])
	copy(m, b)
	if m.Type() != header.ICMPv4EchoReply {
		return
	}
	m.SetIdent(key.ident)
	m.SetChecksum(0)
	m.SetChecksum(^checksum.Checksum(m, 0))
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(packet)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(key.to.As4()), DstAddr: tcpip.AddrFrom4(s.config.Guest.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	s.emit(header.IPv4ProtocolNumber, packet)
}
