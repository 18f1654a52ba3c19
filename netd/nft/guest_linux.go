package nft

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// Guest is what the table says of one machine.
type Guest struct {
	// Link is the tap, Addr the only address that the guest may have, Gateway
	// the host's on the link.
	Link          string
	Addr, Gateway netip.Addr
	// MAC is the guest's, GatewayMAC that of the tap.
	MAC, GatewayMAC net.HardwareAddr
	Policy          policy.Policy
}

// maxFlows is how many connections of one guest the host keeps track of, of
// the some hundred thousand that it can.
const maxFlows = 4096

// chain names of a guest.
func (g Guest) from() string     { return "from-" + g.Link }
func (g Guest) in() string       { return "in-" + g.Link }
func (g Guest) to() string       { return "to-" + g.Link }
func (g Guest) wire() string     { return "wire-" + g.Link }
func (g Guest) pins() string     { return "pins-" + g.Link }
func (g Guest) portPins() string { return "port-pins-" + g.Link }

func (g Guest) counter(name string) string { return g.Link + "-" + name }

// drop is a rule that counts what is then dropped.
func (g Guest) drop(name string, m match) rule {
	return rule{"drop " + name, append(m, count(g.counter(name)), deny(denied))}
}

// dropFrame is drop on the wire.
func (g Guest) dropFrame(name string, m match) rule {
	return rule{"drop " + name, append(m, count(g.counter(name)), deny(deniedFrames))}
}

// accept is a rule that lets pass and counts.
func (g Guest) accept(note string, m match) rule {
	return rule{"allow " + note, append(m, count(g.counter(policy.Allowed)), verdict(expr.VerdictAccept))}
}

// wireRules are all that a frame must be, before anything else looks at it:
// from the guest's addresses, and ARP that asks for the gateway or IPv4 that
// goes to it.
func (g Guest) wireRules() []rule {
	addr, gw := g.Addr.As4(), g.Gateway.As4()
	arp := etherType(expr.CmpOpEq, unix.ETH_P_ARP)
	return []rule{
		g.dropFrame(policy.DropMAC, ether(etherFrom, expr.CmpOpNeq, g.MAC)),
		g.dropFrame(policy.DropARPMAC, all(arp, network(arpSenderMAC, expr.CmpOpNeq, g.MAC))),
		g.dropFrame(policy.DropARPIP, all(arp, network(arpSenderIP, expr.CmpOpNeq, addr[:]))),
		g.dropFrame(policy.DropARPTarget, all(arp, network(arpIP, expr.CmpOpNeq, gw[:]))),
		{"allow arp", append(arp, verdict(expr.VerdictAccept))},
		g.dropFrame(policy.DropIPv6, etherType(expr.CmpOpEq, unix.ETH_P_IPV6)),
		g.dropFrame(policy.DropEtherType, etherType(expr.CmpOpNeq, unix.ETH_P_IP)),
		g.dropFrame(policy.DropIP, network(ipFrom, expr.CmpOpNeq, addr[:])),
		g.dropFrame(policy.DropEther, ether(etherTo, expr.CmpOpNeq, g.GatewayMAC)),
	}
}

// inRules are for what a guest sends to the host.
func (g Guest) inRules(b *base) []rule {
	rules := []rule{{"allow reply", append(reply(), verdict(expr.VerdictAccept))}}
	gateway := to(netip.PrefixFrom(g.Gateway, 32))
	if b.DNS {
		rules = append(rules, g.accept("dns", all(gateway, toPort(b, 53))))
	}
	for _, port := range g.Policy.HostPorts {
		note := "host " + policy.Rule{Prefix: netip.PrefixFrom(g.Gateway, 32), Port: port}.String()
		rules = append(rules, g.accept(note, all(gateway, toPort(b, port))))
	}
	return append(rules, g.drop(policy.DropHost, nil))
}

// fromRules are for what a guest sends elsewhere. Every packet meets them, not
// only the first of a connection, so that a policy that changes changes what
// runs.
func (g Guest) fromRules(b *base) []rule {
	flood := all(state(expr.CtStateBitNEW), match{&expr.Connlimit{Count: maxFlows, Flags: 1}})
	rules := []rule{
		g.drop(policy.DropFlood, flood),
		g.drop(policy.DropLinkLocal, to(netip.MustParsePrefix("169.254.0.0/16"))),
		g.drop(policy.DropReserved, to(netip.MustParsePrefix("224.0.0.0/3"))),
		g.drop(policy.DropGuests, toNetworks(b.pools)),
	}
	rules = append(rules, g.allows(b, func(r policy.Rule) bool { return r.Private() })...)
	rules = append(rules, g.drop(policy.DropPrivate, toNetworks(b.private)))
	rules = append(rules, g.allows(b, func(r policy.Rule) bool { return r.Prefix.IsValid() && !r.Private() })...)
	rules = append(rules, g.drop(policy.DropResolver, toPorts(b, b.resolver)))
	if g.Policy.HasNames() {
		rules = append(rules, g.pinRules(b)...)
	}
	rules = append(rules, g.allows(b, func(r policy.Rule) bool { return r.Internet })...)
	return append(rules, g.drop(policy.DropEgress, nil))
}

// allows are the rules of the policy of one kind.
func (g Guest) allows(b *base, kind func(policy.Rule) bool) (rules []rule) {
	for _, r := range g.Policy.Rules() {
		if !kind(r) {
			continue
		}
		var m match
		if r.Prefix.IsValid() {
			m = to(r.Prefix)
		}
		if r.Port != 0 {
			m = append(m, toPort(b, r.Port)...)
		}
		rules = append(rules, g.accept(r.String(), m))
	}
	return rules
}

// pinRules let the guest reach what its names resolve to. A connection keeps
// its pin alive, however long ago the name was looked up.
func (g Guest) pinRules(b *base) []rule {
	address := load(expr.PayloadBaseNetworkHeader, ipTo, 4)
	// The port goes behind the address: both are looked up together.
	port := &expr.Payload{DestRegister: portRegister, Base: expr.PayloadBaseTransportHeader, Offset: portTo, Len: 2}
	pins, portPins := g.pinSet(b.inet), g.portPinSet(b.inet)
	refresh := func(s *nftables.Set) expr.Any {
		return &expr.Dynset{
			SrcRegKey: 1, SetName: s.Name, SetID: s.ID, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: policy.PinLife,
		}
	}
	established := state(expr.CtStateBitESTABLISHED)
	return []rule{
		{"refresh names", all(established, match{address, in(pins), refresh(pins)})},
		{"refresh names with ports", all(established, ported(b), match{address, port, in(portPins), refresh(portPins)})},
		g.accept("names", match{address, in(pins)}),
		g.accept("names with ports", all(ported(b), match{address, port, in(portPins)})),
	}
}

// portRegister is the register behind the four bytes of register 1:
// NFT_REG32_01, as 1 is NFT_REG32_00 to 03.
const portRegister = 9

// toRules are for what others send to a guest: answers.
func (g Guest) toRules() []rule {
	return []rule{
		{"allow reply", append(reply(), verdict(expr.VerdictAccept))},
		g.drop(policy.DropInbound, nil),
	}
}

func (g Guest) pinSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: t, Name: g.pins(), KeyType: nftables.TypeIPAddr, HasTimeout: true, Dynamic: true, Size: maxPins,
	}
}

func (g Guest) portPinSet(t *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: t, Name: g.portPins(), KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService),
		Concatenation: true, HasTimeout: true, Dynamic: true, Size: maxPins,
	}
}

// maxPins bounds what a guest can make the host remember.
const maxPins = 4096
