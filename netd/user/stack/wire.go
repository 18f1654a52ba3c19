package stack

import (
	"bytes"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// frame is what a guest sends, with the addresses of its link.
type frame struct {
	header.Ethernet
	guest, gateway netip.Addr
}

func (f frame) body() []byte     { return f.Ethernet[header.EthernetMinimumSize:] }
func (f frame) arp() header.ARP  { return f.body() }
func (f frame) ip() header.IPv4  { return f.body() }
func (f frame) isARP() bool      { return f.Type() == header.ARPProtocolNumber }
func (f frame) source() []byte   { return f.Ethernet[6:12] }
func (f frame) receiver() []byte { return f.Ethernet[0:6] }

// step is a reason to drop a frame.
type step struct {
	count string
	drops func(frame) bool
}

// wire is all that a frame must be before anything else looks at it: from the
// guest's addresses, and ARP that asks for the gateway or IPv4 that goes to it.
// The steps are in the order of the rules that package nft makes for taps.
var wire = [...]step{
	{policy.DropMAC, func(f frame) bool { return !bytes.Equal(f.source(), netd.GuestMAC[:]) }},
	{policy.DropARPMAC, func(f frame) bool {
		return f.isARP() && (!f.arp().IsValid() || !bytes.Equal(f.arp().HardwareAddressSender(), netd.GuestMAC[:]))
	}},
	{policy.DropARPIP, func(f frame) bool {
		return f.isARP() && !bytes.Equal(f.arp().ProtocolAddressSender(), f.guest.AsSlice())
	}},
	{policy.DropARPTarget, func(f frame) bool {
		return f.isARP() && !bytes.Equal(f.arp().ProtocolAddressTarget(), f.gateway.AsSlice())
	}},
	{policy.DropIPv6, func(f frame) bool { return f.Type() == header.IPv6ProtocolNumber }},
	{policy.DropEtherType, func(f frame) bool { return !f.isARP() && f.Type() != header.IPv4ProtocolNumber }},
	{policy.DropIP, func(f frame) bool {
		return !f.isARP() && (!f.ip().IsValid(len(f.body())) || address(f.ip().SourceAddress()) != f.guest)
	}},
	{policy.DropEther, func(f frame) bool { return !f.isARP() && !bytes.Equal(f.receiver(), netd.GatewayMAC[:]) }},
}

func address(a tcpip.Address) netip.Addr { return netip.AddrFrom4(a.As4()) }

// refusedBy is the name of the first step that drops a frame, empty if none
// does.
func refusedBy(steps []step, f frame) string {
	for _, s := range steps {
		if s.drops(f) {
			return s.count
		}
	}
	return ""
}

// answerARP tells the guest the gateway's address.
func answerARP(asked header.ARP) []byte {
	if asked.Op() != header.ARPRequest {
		return nil
	}
	answer := make(header.ARP, header.ARPSize)
	answer.SetIPv4OverEthernet()
	answer.SetOp(header.ARPReply)
	copy(answer.HardwareAddressSender(), netd.GatewayMAC[:])
	copy(answer.ProtocolAddressSender(), asked.ProtocolAddressTarget())
	copy(answer.HardwareAddressTarget(), asked.HardwareAddressSender())
	copy(answer.ProtocolAddressTarget(), asked.ProtocolAddressSender())
	return answer
}
