package policy

import (
	"net/netip"
	"time"
)

// PinLife is the least time that a name's address stays open after it was
// looked up, or used last: programs keep addresses for longer than they may.
const PinLife = time.Hour

// maxPinLife bounds what a name server may say.
const maxPinLife = 24 * time.Hour

// PinTime is how long an address is open whose name server says so.
func PinTime(ttl time.Duration) time.Duration { return min(max(ttl, PinLife), maxPinLife) }

// Pins are the addresses that a name opens, as far as the policy names it; port
// 0 is all of them. Addresses that only a rule of their own opens are left out,
// or whoever has the name could open them.
func (p Policy) Pins(name string, addrs []netip.Addr) (all []netip.AddrPort) {
	for _, r := range p.Rules() {
		if !r.Matches(name) {
			continue
		}
		for _, a := range addrs {
			if Public(a) {
				all = append(all, netip.AddrPortFrom(a, r.Port))
			}
		}
	}
	return all
}
