// Package nft owns the nftables of guests: one table of the family inet and
// one of netdev, both of one name, and nothing in anybody else's. Each guest
// has chains of its own, to which maps lead by the name of its link, so that
// a policy can be read in one place and changed in one batch. The tables are
// the truth: what is in the kernel is compared with what should be, and only
// a difference is written, so that counters and pins survive a restart of
// whoever uses this package.
package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// LinkPrefix begins the name of every tap of ours, in every table.
const LinkPrefix = "aegis"

// Config is what all guests have in common.
type Config struct {
	// Name is that of the tables.
	Name string
	// Pools are the networks that guests get their addresses from.
	Pools []netip.Prefix
	// DNS says that somebody answers at port 53 of the gateway.
	DNS bool
	// Group is that of nfnetlink_log which is told when a guest is denied
	// something; 0 tells nobody.
	Group uint16
}

// Table is the tables of one name. Its methods may not be called at once.
type Table struct {
	*base
	conn     *nftables.Conn // nil before the first word and after an error
	wireGoes bool           // the kernel takes the chain of a link away with it
}

// New makes a Table; it changes nothing.
func New(c Config) *Table { return &Table{base: newBase(c)} }

// version names the meaning of the rules: an empty chain of this name is in
// the table, and a table without it is made anew.
const version = "version-2"

// Sync makes the tables say what they should of all guests: those whose link
// is there are wired. What is right already is not touched.
func (t *Table) Sync(guests []Guest, there func(link string) bool) error {
	have, err := t.read()
	if err != nil {
		return err
	}
	if err := t.syncBase(have); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, g := range guests {
		wanted[g.Link] = true
		if err := t.syncGuest(have, g, there(g.Link)); err != nil {
			return err
		}
	}
	for _, link := range have.links() {
		if !wanted[link] {
			if err := t.dropFound(link); err != nil {
				return err
			}
		}
	}
	return nil
}

// syncBase writes what all guests share, if it is not there. A table of
// another version goes, in the same batch.
func (t *Table) syncBase(have *found) error {
	if have.chains[key(t.inet, version)] == nil {
		*have = found{}
	} else if !slices.ContainsFunc(t.chains(), have.differs) {
		return nil
	}
	return t.change("writing what guests share", func(c *nftables.Conn) error {
		for _, table := range []*nftables.Table{t.inet, t.netdev} {
			c.AddTable(table) // so that it can be deleted
			if have.chains == nil {
				c.DelTable(table)
				c.AddTable(table)
			}
		}
		for _, s := range t.sets() {
			if err := c.AddSet(s.Set, s.elements); err != nil {
				return err
			}
		}
		c.AddObj(t.object(t.inet, dropForeign))
		c.AddChain(&nftables.Chain{Name: version, Table: t.inet})
		for _, ch := range t.chains() {
			put(c, ch)
		}
		return nil
	})
}

func (t *Table) syncGuest(have *found, g Guest, there bool) error {
	if slices.ContainsFunc(t.guestChains(g), have.differs) || !have.mapped(g) {
		if err := t.Put(g); err != nil {
			return err
		}
	}
	if there && have.differs(t.wireChain(g)) {
		return t.Wire(g)
	}
	return nil
}

// Put writes the chains of a guest, new or changed.
func (t *Table) Put(g Guest) error {
	return t.change("writing the rules of "+g.Link, func(c *nftables.Conn) error {
		for _, name := range policy.GuestCounters {
			c.AddObj(t.object(t.inet, g.counter(name)))
		}
		for _, s := range []*nftables.Set{g.pinSet(t.inet), g.portPinSet(t.inet)} {
			if err := c.AddSet(s, nil); err != nil {
				return err
			}
		}
		for _, ch := range t.guestChains(g) {
			put(c, ch)
		}
		for m, e := range t.elements(g) {
			if err := c.SetAddElements(m, []nftables.SetElement{e}); err != nil {
				return err
			}
		}
		return nil
	})
}

// Wire writes the rules for the frames of a link, which must be there; they
// go with it.
func (t *Table) Wire(g Guest) error {
	return t.change("wiring "+g.Link, func(c *nftables.Conn) error {
		for _, name := range policy.WireCounters {
			c.AddObj(t.object(t.netdev, g.counter(name)))
		}
		ch := t.wireChain(g)
		left, err := c.ListChainsOfTableFamily(t.netdev.Family)
		if err != nil {
			return err
		}
		for _, old := range left { // of a link that has gone
			if old.Table.Name == t.netdev.Name && old.Name == ch.Name {
				c.FlushChain(old)
				c.DelChain(&nftables.Chain{Name: ch.Name, Table: t.netdev})
			}
		}
		put(c, ch)
		return nil
	})
}

// put writes one chain.
func put(c *nftables.Conn, ch chain) {
	c.AddChain(ch.Chain)
	c.FlushChain(ch.Chain)
	for _, r := range ch.rules {
		c.AddRule(&nftables.Rule{
			Table: ch.Table, Chain: ch.Chain, Exprs: r.exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, r.note),
		})
	}
}

func (t *Table) object(table *nftables.Table, name string) *nftables.NamedObj {
	return &nftables.NamedObj{Table: table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}}
}

func (t *Table) guestChains(g Guest) []chain {
	regular := func(name string, rules []rule) chain {
		return chain{&nftables.Chain{Name: name, Table: t.inet}, rules}
	}
	return []chain{
		regular(g.in(), g.inRules(t.base)), regular(g.from(), g.fromRules(t.base)), regular(g.to(), g.toRules()),
	}
}

func (t *Table) wireChain(g Guest) chain {
	return chain{&nftables.Chain{
		Name: g.wire(), Table: t.netdev, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter, Device: g.Link,
	}, g.wireRules()}
}

// elements are what leads to a guest's chains.
func (t *Table) elements(g Guest) map[*nftables.Set]nftables.SetElement {
	addr := g.Addr.As4()
	jump := func(chain string) nftables.SetElement {
		return nftables.SetElement{Key: name16(g.Link), VerdictData: &expr.Verdict{Kind: expr.VerdictJump, Chain: chain}}
	}
	return map[*nftables.Set]nftables.SetElement{
		t.inMap: jump(g.in()), t.fromMap: jump(g.from()), t.toMap: jump(g.to()),
		t.guests: {Key: addr[:], Comment: g.Link},
	}
}

// Remove takes both tables away, if they are there.
func (t *Table) Remove() error {
	return t.change("removing the tables", func(c *nftables.Conn) error {
		for _, table := range []*nftables.Table{t.inet, t.netdev} {
			c.AddTable(table)
			c.DelTable(table)
		}
		return nil
	})
}
