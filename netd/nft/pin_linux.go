package nft

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// Pin opens the addresses that a name resolves to, as far as the policy of the
// guest allows the name.
func (t *Table) Pin(g Guest, name string, addrs []netip.Addr, ttl time.Duration) error {
	pins, portPins := pinElements(g.Policy.Pins(name, addrs), name, policy.PinTime(ttl))
	if len(pins)+len(portPins) == 0 {
		return nil
	}
	return t.change("pinning a name of "+g.Link, func(c *nftables.Conn) error {
		// An element that is there keeps its old time, unless it goes first;
		// it can only go if it is there.
		for set, elements := range map[*nftables.Set][]nftables.SetElement{g.pinSet(t.inet): pins, g.portPinSet(t.inet): portPins} {
			if len(elements) == 0 {
				continue
			}
			for _, add := range []func(*nftables.Set, []nftables.SetElement) error{c.SetAddElements, c.SetDeleteElements, c.SetAddElements} {
				if err := add(set, elements); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pinElements are the elements of a name's addresses, with any port and with one.
func pinElements(all []netip.AddrPort, name string, ttl time.Duration) (pins, portPins []nftables.SetElement) {
	for _, at := range all {
		b := at.Addr().As4()
		e := nftables.SetElement{Key: b[:], Timeout: ttl, Comment: name}
		if at.Port() == 0 {
			pins = append(pins, e)
			continue
		}
		e.Key = append(append(e.Key, port16(at.Port())...), 0, 0)
		portPins = append(portPins, e)
	}
	return unique(pins), unique(portPins)
}

func unique(all []nftables.SetElement) []nftables.SetElement {
	slices.SortFunc(all, func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
	return slices.CompactFunc(all, func(a, b nftables.SetElement) bool { return slices.Equal(a.Key, b.Key) })
}

// Unpin closes what was opened for names that the policy of the guest allows
// no longer.
func (t *Table) Unpin(g Guest) error {
	return t.change("unpinning names of "+g.Link, func(c *nftables.Conn) error {
		for _, s := range []*nftables.Set{g.pinSet(t.inet), g.portPinSet(t.inet)} {
			elements, err := c.GetSetElements(s)
			if err != nil {
				return err
			}
			stale := slices.DeleteFunc(elements, func(e nftables.SetElement) bool { return g.allowsPin(e) })
			if len(stale) > 0 {
				if err := c.SetDeleteElements(s, stale); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// allowsPin tells whether the policy still allows what an element opens.
func (g Guest) allowsPin(e nftables.SetElement) bool {
	return slices.ContainsFunc(g.Policy.Rules(), func(r policy.Rule) bool {
		port := len(e.Key) == 4 && r.Port == 0 || len(e.Key) > 4 && slices.Equal(e.Key[4:6], port16(r.Port))
		return port && r.Matches(e.Comment)
	})
}
