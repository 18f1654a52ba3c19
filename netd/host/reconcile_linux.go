package host

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/nft"
	"github.com/xfeldman/aegisvm/netd/tap"
)

// reconcile makes the kernel agree with the leases after a start, whatever a
// process before us was doing when it ended. The caller holds mu or is alone.
func (n *Network) reconcile() error {
	n.claims.again(n.options.Pools, n.used())
	_, ours, err := tap.Names(n.mark(""))
	if err != nil {
		return err
	}
	for _, link := range ours {
		if !n.leased(link) {
			n.log.Warn("removing a tap without a lease", "link", link, "error", tap.Delete(link, n.mark("")))
		}
	}
	if len(n.leases) == 0 {
		return n.leave()
	}
	return n.restore()
}

// restore puts into the kernel what should be there and is not.
func (n *Network) restore() error {
	if err := n.sync(); err != nil {
		return err
	}
	return n.openLinks()
}

func (n *Network) leased(link string) bool {
	for _, l := range n.leases {
		if l.Link == link {
			return true
		}
	}
	return false
}

// sync makes the tables say what they should.
func (n *Network) sync() error {
	_, ours, err := tap.Names(n.mark(""))
	if err != nil {
		return err
	}
	var guests []nft.Guest
	for _, l := range n.leases {
		guests = append(guests, n.guest(l))
	}
	return n.table.Sync(guests, func(link string) bool { return slices.Contains(ours, link) })
}

// openLinks makes the host's links forward what comes back for guests. Where
// the host forwards anyway, they are as they should be; otherwise those that
// we have opened are named in the table, which lets nothing else through.
func (n *Network) openLinks() error {
	want, shut, err := n.linksToOpen()
	if err != nil {
		return err
	}
	if !slices.Equal(want, n.opened) {
		if err := n.writeOpened(want); err != nil {
			return err
		}
		n.opened = want
	}
	named, err := n.table.Opened()
	if err != nil {
		return err
	}
	if slices.Sort(named); !slices.Equal(want, named) {
		if err := n.table.SetOpened(want); err != nil {
			return err
		}
	}
	for _, link := range shut { // behind the rule that keeps others out
		if err := tap.SetForwarding(link, true); err != nil {
			return err
		}
	}
	return nil
}

// linksToOpen are the links that forward for guests alone, and those of all
// that do not forward yet. What another owner of guests has opened is opened
// by us as well: whoever goes last closes it.
func (n *Network) linksToOpen() (want, shut []string, err error) {
	router, err := tap.Forwards("all")
	if err != nil {
		return nil, nil, err
	}
	others, err := n.table.Others()
	if err != nil {
		return nil, nil, err
	}
	_, taps, err := tap.Names(nft.LinkPrefix) // also those of other owners
	if err != nil {
		return nil, nil, err
	}
	_, links, err := tap.Routes(func(link string) bool { return slices.Contains(taps, link) })
	if err != nil {
		return nil, nil, err
	}
	for _, link := range links {
		on, err := tap.Forwards(link)
		if err != nil {
			continue // it went meanwhile
		}
		if !router && (!on || others || slices.Contains(n.opened, link)) {
			want = append(want, link)
		}
		if !on {
			shut = append(shut, link)
		}
	}
	return want, shut, nil
}

// closeLinks takes back what openLinks did.
func (n *Network) closeLinks() error {
	others, err := n.table.Others()
	if err != nil {
		return err
	}
	for _, link := range n.opened {
		if others {
			break // their guests need the links, too
		}
		if err := tap.SetForwarding(link, false); err != nil {
			return err
		}
	}
	n.opened = nil
	return n.writeOpened(nil)
}

// watch follows routes and tables until Close: a new uplink must forward, and
// rules that somebody has flushed must come back.
func (n *Network) watch() {
	n.tasks.Go(func() {
		n.keep("routes", func(ctx context.Context) error { return tap.Watch(ctx, n.toGuest, n.again(n.openLinks)) })
	})
	n.tasks.Go(func() {
		n.keep("tables", func(ctx context.Context) error { return n.table.Watch(ctx, n.again(n.restore)) })
	})
}

// toGuest tells whether a route is one that the tap of a guest brings.
func (n *Network) toGuest(p netip.Prefix) bool {
	return p.IsSingleIP() && slices.ContainsFunc(n.options.Pools, func(pool netip.Prefix) bool { return pool.Contains(p.Addr()) })
}

// again does something while there are machines, whenever it is called.
func (n *Network) again(do func() error) func() {
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.leases) == 0 {
			return
		}
		if err := do(); err != nil {
			n.log.Error("the network is not as it should be", "error", err)
		}
	}
}

// keep watches anew when a watch breaks, such as after more events than the
// kernel keeps.
func (n *Network) keep(what string, watch func(context.Context) error) {
	for n.ctx.Err() == nil {
		err := watch(n.ctx)
		if n.ctx.Err() != nil {
			return
		}
		n.log.Warn("watching anew", "what", what, "error", err)
		select {
		case <-n.ctx.Done():
		case <-time.After(time.Second):
		}
		n.again(n.reconcile)()
	}
}

// Pin implements Network.
func (n *Network) Pin(ctx context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, err := n.find(machine)
	if err != nil {
		return err
	}
	if err := n.table.Pin(n.guest(l), name, addrs, ttl); err != nil {
		return failure(ctx, fmt.Sprintf("pinning %.80q for machine %s", name, machine), err)
	}
	return nil
}

// Guest implements Network.
func (n *Network) Guest(_ context.Context, addr netip.Addr) (netd.Lease, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.leases {
		if l.Addr == addr {
			return l, nil
		}
	}
	return netd.Lease{}, api.Errorf(api.NotFound, "no machine has the address %s", addr)
}

// tellGateways tells of a change, if there was one; the caller holds mu or is
// alone.
func (n *Network) tellGateways() {
	if now := lease.Resolvers(maps.Values(n.leases)); !slices.Equal(now, n.toldGateways) {
		n.toldGateways = now
		n.gateways.Tell(now)
	}
}

// Gateways implements Network.
func (n *Network) Gateways(ctx context.Context) (<-chan []netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gateways.Follow(ctx, lease.Resolvers(maps.Values(n.leases))), nil
}

// Support implements Network.
func (n *Network) Support(context.Context) (netd.Support, error) {
	s := netd.Support{Kind: netd.KindTap, Notes: n.denials.note()}
	for _, p := range n.options.Pools {
		s.Pools = append(s.Pools, p.String())
	}
	return s, nil
}
