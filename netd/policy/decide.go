package policy

import (
	"net/netip"
	"slices"
)

// The names of what is counted for a guest. All but Allowed are drops: the
// first group is of frames that a guest may not send at all, the second of
// packets that its policy does not let pass.
const (
	DropMAC       = "mac"
	DropARPMAC    = "arp-mac"
	DropARPIP     = "arp-ip"
	DropARPTarget = "arp-target"
	DropIPv6      = "ipv6"
	DropEtherType = "ethertype"
	DropIP        = "ip"
	DropEther     = "broadcast"

	DropHost      = "host"
	DropInbound   = "inbound"
	DropFlood     = "flood"
	DropLinkLocal = "link-local"
	DropReserved  = "reserved"
	DropGuests    = "guests"
	DropPrivate   = "private"
	DropResolver  = "resolver"
	DropEgress    = "egress"
	Allowed       = "allowed"
)

// WireCounters are the names of the first group, GuestCounters of the second,
// in the order in which a packet meets what counts them.
var (
	WireCounters  = []string{DropMAC, DropARPMAC, DropARPIP, DropARPTarget, DropIPv6, DropEtherType, DropIP, DropEther}
	GuestCounters = []string{
		DropHost, DropInbound, DropFlood, DropLinkLocal, DropReserved, DropGuests, DropPrivate, DropResolver, DropEgress, Allowed,
	}
)

// The protocols that have ports, by their numbers in IPv4.
const (
	TCP = 6
	UDP = 17
)

// Packet is where a guest sends something.
type Packet struct {
	Protocol uint8
	To       netip.Addr
	// Port is that of TCP and UDP; 0 for other protocols.
	Port uint16
}

func (k Packet) ported() bool { return k.Protocol == TCP || k.Protocol == UDP }

// Site is what a decision depends on beside the policy.
type Site struct {
	// Gateway is the host's address on the guest's link.
	Gateway netip.Addr
	// Pools are the networks that guests have their addresses from.
	Pools []netip.Prefix
	// DNS says that somebody answers at port 53 of the gateway.
	DNS bool
	// Local tells whether an address is the host's own.
	Local func(netip.Addr) bool
	// Pinned tells whether a name that the policy allows has resolved to an
	// address; the port is 0 for a protocol that has none.
	Pinned func(addr netip.Addr, port uint16) bool
}

// clause is one step of a decision: a packet that it matches is counted by
// its name, and goes no further.
type clause struct {
	count   string
	matches func(Policy, Packet, Site) bool
}

// clauses are the steps, in the order of the rules that package nft makes for
// guests with a tap. Neither may change without the other.
var clauses = []clause{
	{Allowed, func(_ Policy, k Packet, s Site) bool { return s.DNS && k.To == s.Gateway && k.ported() && k.Port == 53 }},
	{Allowed, func(p Policy, k Packet, s Site) bool {
		return k.To == s.Gateway && k.ported() && slices.Contains(p.HostPorts, k.Port)
	}},
	{DropHost, func(_ Policy, k Packet, s Site) bool { return k.To == s.Gateway || s.Local(k.To) }},
	{DropLinkLocal, func(_ Policy, k Packet, _ Site) bool { return linkLocal.Contains(k.To) }},
	{DropReserved, func(_ Policy, k Packet, _ Site) bool { return contains(Never, k.To) }},
	{DropGuests, func(_ Policy, k Packet, s Site) bool { return contains(s.Pools, k.To) }},
	{Allowed, func(p Policy, k Packet, _ Site) bool { return p.names(k, Rule.Private) }},
	{DropPrivate, func(_ Policy, k Packet, _ Site) bool { return contains(Private, k.To) }},
	{Allowed, func(p Policy, k Packet, _ Site) bool { return p.names(k, func(r Rule) bool { return !r.Private() }) }},
	{DropResolver, func(_ Policy, k Packet, _ Site) bool { return k.ported() && (k.Port == 53 || k.Port == 853) }},
	{Allowed, func(p Policy, k Packet, s Site) bool { return p.HasNames() && s.Pinned(k.To, k.Port) }},
	{Allowed, func(p Policy, _ Packet, _ Site) bool { return slices.Contains(p.Rules(), Rule{Internet: true}) }},
	{DropEgress, func(Policy, Packet, Site) bool { return true }},
}

var linkLocal = netip.MustParsePrefix("169.254.0.0/16")

// Decide tells what a packet is counted as; it may pass if that is Allowed.
func (p Policy) Decide(k Packet, s Site) string { return p.decide(clauses, k, s) }

func (p Policy) decide(steps []clause, k Packet, s Site) string {
	for _, c := range steps {
		if c.matches(p, k, s) {
			return c.count
		}
	}
	return DropEgress
}

// names tells whether a rule of one kind has the packet's destination.
func (p Policy) names(k Packet, kind func(Rule) bool) bool {
	return slices.ContainsFunc(p.Rules(), func(r Rule) bool {
		return r.Prefix.IsValid() && kind(r) && r.Prefix.Contains(k.To) && (r.Port == 0 || k.ported() && r.Port == k.Port)
	})
}

func contains(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) })
}
