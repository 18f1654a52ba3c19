package nft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/xfeldman/aegisvm/netd/policy"
)

// Counter is what one rule has counted since the guest got its network.
type Counter struct {
	Name           string
	Packets, Bytes uint64
}

// Counters are those of a link, in the order in which a packet meets them.
func (t *Table) Counters(link string) ([]Counter, error) {
	all, err := t.AllCounters()
	if err != nil {
		return nil, err
	}
	order := append(slices.Clone(policy.WireCounters), policy.GuestCounters...)
	slices.SortFunc(all[link], func(a, b Counter) int { return slices.Index(order, a.Name) - slices.Index(order, b.Name) })
	return all[link], nil
}

// AllCounters are those of all guests, by link.
func (t *Table) AllCounters() (map[string][]Counter, error) {
	all := map[string][]Counter{}
	return all, t.with(func(c *nftables.Conn) error {
		for _, table := range []*nftables.Table{t.netdev, t.inet} {
			objects, err := c.GetNamedObjects(table)
			if err != nil {
				return fmt.Errorf("nftables: reading counters: %w", err)
			}
			for _, o := range objects {
				if link, counter, ok := counterOf(o); ok {
					all[link] = append(all[link], counter)
				}
			}
		}
		return nil
	})
}

// counterOf reads a counter of a guest; the names of links have no hyphen.
func counterOf(o nftables.Obj) (link string, c Counter, ok bool) {
	n, named := o.(*nftables.NamedObj)
	if !named {
		return "", c, false
	}
	link, name, _ := strings.Cut(n.Name, "-")
	value, counts := n.Obj.(*expr.Counter)
	if !counts || !strings.HasPrefix(link, LinkPrefix) {
		return "", c, false
	}
	return link, Counter{name, value.Packets, value.Bytes}, true
}

// Denies tells whether a counter counts what was dropped.
func (c Counter) Denies() bool { return c.Name != policy.Allowed }

// Opened are the links that SetOpened has named.
func (t *Table) Opened() (all []string, err error) {
	err = t.with(func(c *nftables.Conn) error {
		elements, err := t.elementsOf(c, t.opened)
		for _, e := range elements {
			all = append(all, strings.TrimRight(string(e.Key), "\x00"))
		}
		return err
	})
	return all, err
}

// SetOpened names the links that forward for guests alone: what comes from
// them and is not for a guest is dropped.
func (t *Table) SetOpened(links []string) error {
	return t.change("naming opened links", func(c *nftables.Conn) error {
		c.FlushSet(t.opened)
		var elements []nftables.SetElement
		for _, link := range links {
			elements = append(elements, nftables.SetElement{Key: name16(link)})
		}
		if len(elements) == 0 {
			return nil
		}
		return c.SetAddElements(t.opened, elements)
	})
}
