package nft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

// found is what the kernel has of ours.
type found struct {
	// chains are the notes of their rules, by table and chain.
	chains map[string][]string
	// elements are the keys of the sets that lead to guests, by set.
	elements map[string][]nftables.SetElement
}

// read reads both tables; a table that is not there has nothing.
func (t *Table) read() (*found, error) {
	f := &found{chains: map[string][]string{}, elements: map[string][]nftables.SetElement{}}
	return f, t.with(func(c *nftables.Conn) (err error) {
		for _, table := range []*nftables.Table{t.inet, t.netdev} {
			if err := f.readChains(c, table); err != nil {
				return err
			}
		}
		for _, s := range []*nftables.Set{t.inMap, t.fromMap, t.toMap, t.guests, t.opened} {
			if f.elements[s.Name], err = t.elementsOf(c, s); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *found) readChains(c *nftables.Conn, table *nftables.Table) error {
	chains, err := c.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return fmt.Errorf("nftables: listing chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name != table.Name {
			continue
		}
		rules, err := c.GetRules(table, ch)
		if err != nil {
			return fmt.Errorf("nftables: reading chain %s: %w", ch.Name, err)
		}
		f.chains[key(table, ch.Name)] = notes(rules)
	}
	return nil
}

// elementsOf are the elements of a set, none where there is no such set.
func (t *Table) elementsOf(c *nftables.Conn, s *nftables.Set) ([]nftables.SetElement, error) {
	sets, err := t.setsOf(c)
	if err != nil || !slices.ContainsFunc(sets, func(have *nftables.Set) bool { return have.Name == s.Name }) {
		return nil, err
	}
	elements, err := c.GetSetElements(s)
	if err != nil {
		return nil, fmt.Errorf("nftables: reading set %s: %w", s.Name, err)
	}
	return elements, nil
}

// setsOf are the sets of our table, none where there is no such table: the
// library's errors do not tell that from others.
func (t *Table) setsOf(c *nftables.Conn) ([]*nftables.Set, error) {
	tables, err := c.ListTablesOfFamily(t.inet.Family)
	if err != nil || !slices.ContainsFunc(tables, func(have *nftables.Table) bool { return have.Name == t.inet.Name }) {
		return nil, err
	}
	sets, err := c.GetSets(t.inet)
	if err != nil {
		return nil, fmt.Errorf("nftables: listing sets: %w", err)
	}
	return sets, nil
}

func key(t *nftables.Table, chain string) string { return string(rune(t.Family)) + chain }

func notes(rules []*nftables.Rule) []string {
	all := []string{}
	for _, r := range rules {
		note, _ := userdata.GetString(r.UserData, userdata.TypeComment)
		all = append(all, note)
	}
	return all
}

// differs tells whether a chain is not as it should be.
func (f *found) differs(want chain) bool {
	have, there := f.chains[key(want.Table, want.Name)]
	return !there || !slices.EqualFunc(have, want.rules, func(note string, r rule) bool { return note == r.note })
}

// links are those that any chain is for.
func (f *found) links() (all []string) {
	for name := range f.chains {
		for _, kind := range []string{"from-", "in-", "to-", "wire-"} {
			if link, ok := strings.CutPrefix(name[1:], kind); ok && !slices.Contains(all, link) {
				all = append(all, link)
			}
		}
	}
	slices.Sort(all)
	return all
}

// mapped tells whether everything leads to a guest that should.
func (f *found) mapped(g Guest) bool {
	has := func(set string, key []byte) bool {
		return slices.ContainsFunc(f.elements[set], func(e nftables.SetElement) bool { return slices.Equal(e.Key, key) })
	}
	addr, name := g.Addr.As4(), name16(g.Link)
	return has("in", name) && has("from", name) && has("to", name) && has("guests", addr[:])
}
