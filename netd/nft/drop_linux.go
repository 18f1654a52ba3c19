package nft

import (
	"slices"
	"strings"

	"github.com/google/nftables"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// Drop takes away all that is there of a guest whose link is gone. What is
// there is known, unless somebody else has had a hand in it.
func (t *Table) Drop(g Guest) error {
	for _, wire := range []bool{!t.wireGoes, t.wireGoes} {
		if t.dropKnown(g, wire) == nil {
			t.wireGoes = !wire
			return nil
		}
	}
	return t.dropFound(g.Link)
}

// dropKnown removes what Put and Wire have written; all of it or nothing. The
// chain of a link stays behind it since Linux 6.16, before that it goes with it.
func (t *Table) dropKnown(g Guest, wire bool) error {
	return t.change("removing the rules of "+g.Link, func(c *nftables.Conn) error {
		for set, e := range t.elements(g) {
			if err := c.SetDeleteElements(set, []nftables.SetElement{{Key: e.Key}}); err != nil {
				return err
			}
		}
		chains := t.guestChains(g)
		if wire {
			chains = append(chains, t.wireChain(g))
		}
		for _, ch := range chains {
			c.FlushChain(ch.Chain)
		}
		for _, ch := range chains {
			c.DelChain(&nftables.Chain{Name: ch.Name, Table: ch.Table})
		}
		c.DelSet(g.pinSet(t.inet))
		c.DelSet(g.portPinSet(t.inet))
		for _, name := range policy.GuestCounters {
			c.DeleteObject(t.object(t.inet, g.counter(name)))
		}
		for _, name := range policy.WireCounters {
			c.DeleteObject(t.object(t.netdev, g.counter(name)))
		}
		return nil
	})
}

// dropFound removes whatever is there.
func (t *Table) dropFound(link string) error {
	have, err := t.read()
	if err != nil {
		return err
	}
	return t.change("removing the rules of "+link, func(c *nftables.Conn) error {
		g := Guest{Link: link}
		for set, keep := range map[*nftables.Set]func(nftables.SetElement) bool{
			t.inMap: isNot(link), t.fromMap: isNot(link), t.toMap: isNot(link),
			t.guests: func(e nftables.SetElement) bool { return e.Comment != link },
		} {
			if mine := slices.DeleteFunc(have.elements[set.Name], keep); len(mine) > 0 {
				if err := c.SetDeleteElements(set, mine); err != nil {
					return err
				}
			}
		}
		var chains []*nftables.Chain
		for table, names := range map[*nftables.Table][]string{t.inet: {g.in(), g.from(), g.to()}, t.netdev: {g.wire()}} {
			for _, name := range names {
				if _, there := have.chains[key(table, name)]; there {
					chains = append(chains, &nftables.Chain{Name: name, Table: table})
				}
			}
		}
		for _, ch := range chains {
			c.FlushChain(ch)
		}
		for _, ch := range chains {
			c.DelChain(ch)
		}
		return t.dropNamed(c, g)
	})
}

// isNot keeps all elements but that of a link.
func isNot(link string) func(nftables.SetElement) bool {
	return func(e nftables.SetElement) bool { return !slices.Equal(e.Key, name16(link)) }
}

// dropNamed takes the sets and counters of a guest away, behind its chains.
func (t *Table) dropNamed(c *nftables.Conn, g Guest) error {
	sets, err := t.setsOf(c)
	if err != nil {
		return err
	}
	for _, s := range sets {
		if s.Name == g.pins() || s.Name == g.portPins() {
			c.DelSet(s)
		}
	}
	for _, table := range []*nftables.Table{t.inet, t.netdev} {
		objects, err := c.GetNamedObjects(table)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if n, ok := o.(*nftables.NamedObj); ok && strings.HasPrefix(n.Name, g.counter("")) {
				c.DeleteObject(n)
			}
		}
	}
	return nil
}
