package user

import (
	"net/netip"
	"time"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// maxPins is how many addresses of names there may be, as package nft has it.
const maxPins = 4096

// pin is one address of a name.
type pin struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until"`
}

// pins are the addresses that names have opened; port 0 is all of them. One
// that is over stays until there is no room.
type pins map[netip.AddrPort]pin

// add opens addresses of a name.
func (p pins) add(name string, all []netip.AddrPort, until time.Time) {
	for _, at := range all {
		p.makeRoom()
		p[at] = pin{name, until}
	}
}

// makeRoom removes what is over, or else what will be first.
func (p pins) makeRoom() {
	if len(p) < maxPins {
		return
	}
	var first netip.AddrPort
	now := time.Now()
	for at, one := range p {
		if one.Until.Before(now) {
			delete(p, at)
		} else if !first.IsValid() || one.Until.Before(p[first].Until) {
			first = at
		}
	}
	if len(p) >= maxPins {
		delete(p, first)
	}
}

// open tells whether a name has opened an address.
func (p pins) open(addr netip.Addr, port uint16, now time.Time) bool {
	for _, at := range []netip.AddrPort{netip.AddrPortFrom(addr, 0), netip.AddrPortFrom(addr, port)} {
		if one, there := p[at]; there && now.Before(one.Until) {
			return true
		}
	}
	return false
}

// keep removes what a policy allows no longer.
func (p pins) keep(allowed policy.Policy) {
	for at, one := range p {
		wanted := false
		for _, r := range allowed.Rules() {
			wanted = wanted || r.Port == at.Port() && r.Matches(one.Name)
		}
		if !wanted {
			delete(p, at)
		}
	}
}
