package nft

import (
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Drop takes away all that is there of a guest.
func (t *Table) Drop(link string) error {
	have, err := t.read()
	if err != nil {
		return err
	}
	return change("removing the rules of "+link, func(c *nftables.Conn) error {
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
