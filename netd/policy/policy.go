// Package policy says what a guest may reach: its words, their grammar and
// their meaning. It touches no network; package nft makes rules of it.
package policy

import (
	"net/netip"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// Policy is what one guest may reach. The zero value is the internet, and
// nothing of the host, its networks and the other guests.
type Policy struct {
	// HostPorts are TCP and UDP ports of the host, at the gateway's address.
	HostPorts []uint16 `json:"host_ports,omitempty"`
	// Allow replaces the internet by what is named; Deny by nothing at all.
	Allow []Rule `json:"allow,omitempty"`
	Deny  bool   `json:"deny,omitempty"`
}

// Most that one policy may have: every rule costs each packet a little.
const (
	MaxRules = 256
	MaxPorts = 64
)

// Rules are the rules that hold.
func (p Policy) Rules() []Rule {
	switch {
	case p.Deny:
		return nil
	case len(p.Allow) == 0:
		return []Rule{{Internet: true}}
	}
	return p.Allow
}

// HasNames tells whether the policy names domains, so that only what resolves
// to an allowed name may be reached.
func (p Policy) HasNames() bool {
	return slices.ContainsFunc(p.Rules(), func(r Rule) bool { return r.Name != "" })
}

// Resolves tells whether the guest may look a name up: where it has the
// internet, every name, else those that are allowed. name is lower-case and
// without a dot at its end.
func (p Policy) Resolves(name string) bool {
	return slices.ContainsFunc(p.Rules(), func(r Rule) bool { return r.Internet || r.Matches(name) })
}

// Check refuses what cannot be a policy.
func (p Policy) Check() error {
	switch {
	case p.Deny && len(p.Allow) > 0:
		return api.Errorf(api.InvalidArgument, "egress: nothing and something cannot both be allowed: leave deny-egress or allow-egress out")
	case len(p.Allow) > MaxRules:
		return api.Errorf(api.InvalidArgument, "egress: %d rules: at most %d are possible", len(p.Allow), MaxRules)
	case len(p.HostPorts) > MaxPorts:
		return api.Errorf(api.InvalidArgument, "host services: %d ports: at most %d are possible", len(p.HostPorts), MaxPorts)
	case slices.Contains(p.HostPorts, 0):
		return api.Errorf(api.InvalidArgument, "host services: port 0: expected 1 to 65535")
	}
	for _, r := range p.Allow {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

// Never are the addresses that no rule opens: this host's own and those that
// mean something else on every network, among them the metadata servers of
// clouds.
var Never = prefixes("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")

// Private are the addresses of networks that the host may be in. Only a rule
// that names them opens them, and neither a wider one nor a name does.
var Private = prefixes("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15")

func prefixes(all ...string) (out []netip.Prefix) {
	for _, s := range all {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// within tells whether a network lies in one of those.
func within(p netip.Prefix, all []netip.Prefix) bool {
	return slices.ContainsFunc(all, func(o netip.Prefix) bool { return o.Bits() <= p.Bits() && o.Contains(p.Addr()) })
}

// Public tells whether an address may be reached by a name that resolves to
// it.
func Public(a netip.Addr) bool {
	p := netip.PrefixFrom(a, a.BitLen())
	return a.Is4() && !within(p, Never) && !within(p, Private)
}
