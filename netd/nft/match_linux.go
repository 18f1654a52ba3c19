package nft

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// match is a part of a rule; all parts of a rule must hold.
type match []expr.Any

// Offsets in the headers that are looked at.
const (
	etherTo, etherFrom               = 0, 6
	arpSenderMAC, arpSenderIP, arpIP = 8, 14, 24
	ipFrom, ipTo                     = 12, 16
	portTo                           = 2
)

// port16 is a number as packets have it.
func port16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

func compare(op expr.CmpOp, data []byte) expr.Any {
	return &expr.Cmp{Op: op, Register: 1, Data: data}
}

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) match {
	return match{&expr.Meta{Key: key, Register: 1}, compare(op, data)}
}

func load(base expr.PayloadBase, offset, length int) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: base, Offset: uint32(offset), Len: uint32(length)}
}

func etherType(op expr.CmpOp, kind uint16) match {
	return meta(expr.MetaKeyPROTOCOL, op, port16(kind))
}

func ether(offset int, op expr.CmpOp, mac []byte) match {
	return match{load(expr.PayloadBaseLLHeader, offset, len(mac)), compare(op, mac)}
}

func network(offset int, op expr.CmpOp, data []byte) match {
	return match{load(expr.PayloadBaseNetworkHeader, offset, len(data)), compare(op, data)}
}

// to is a destination in a network.
func to(p netip.Prefix) match {
	addr := p.Addr().As4()
	if p.IsSingleIP() {
		return network(ipTo, expr.CmpOpEq, addr[:])
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return match{
		load(expr.PayloadBaseNetworkHeader, ipTo, 4),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		compare(expr.CmpOpEq, addr[:]),
	}
}

func toNetworks(s *nftables.Set) match {
	return match{load(expr.PayloadBaseNetworkHeader, ipTo, 4), in(s)}
}

// ported are packets that have ports: TCP and UDP.
func ported(b *base) match {
	return append(match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}}, in(b.ported))
}

func toPort(b *base, port uint16) match {
	return append(ported(b), load(expr.PayloadBaseTransportHeader, portTo, 2), compare(expr.CmpOpEq, port16(port)))
}

func toPorts(b *base, ports *nftables.Set) match {
	return append(ported(b), load(expr.PayloadBaseTransportHeader, portTo, 2), in(ports))
}

// in looks register 1 up in a set.
func in(s *nftables.Set) expr.Any {
	return &expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID}
}

// dispatch goes to the chain that a map has for a link.
func dispatch(key expr.MetaKey, m *nftables.Set) match {
	return match{
		&expr.Meta{Key: key, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: m.Name, SetID: m.ID, IsDestRegSet: true},
	}
}

func state(bits uint32) match {
	return match{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4),
		},
		compare(expr.CmpOpNeq, make([]byte, 4)),
	}
}

// reply are packets that answer what the other side has begun.
func reply() match {
	const direction = 1 // IP_CT_DIR_REPLY
	return append(state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED),
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, compare(expr.CmpOpEq, []byte{direction}))
}

// count adds a packet to a named counter.
func count(name string) expr.Any {
	return &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}
}

func verdict(kind expr.VerdictKind) expr.Any { return &expr.Verdict{Kind: kind} }

// all joins matches.
func all(parts ...match) (out match) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// name16 is a link's name as the kernel compares it.
func name16(link string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, link)
	return b
}
