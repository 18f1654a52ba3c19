package tap

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Routes are the networks that the host has routes or addresses in, but for
// the default route and for those of links that skip says are ours; and the
// links that lead anywhere.
func Routes(skip func(link string) bool) (taken []netip.Prefix, links []string, err error) {
	names, err := indexes()
	if err != nil {
		return nil, nil, err
	}
	all, err := whole(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range all {
		name := names[r.LinkIndex]
		if skip(name) {
			continue
		}
		if p, ok := prefix(r); ok {
			taken = append(taken, p)
		}
		if r.Type == unix.RTN_UNICAST && name != "" && name != "lo" && !slices.Contains(links, name) {
			links = append(links, name)
		}
	}
	slices.Sort(links)
	return taken, links, nil
}

// listings is how often a list is asked for that changes while it is given.
const listings = 100

// whole asks for a list until it is one: the kernel says when links or routes
// came and went meanwhile.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range listings {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

func indexes() (map[int]string, error) {
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}

// prefix is where a route leads; false for the default route.
func prefix(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	bits, _ := r.Dst.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(addr.Unmap(), bits), true
}

// Forwards tells whether packets that come in by a link are forwarded; "all"
// is the host's own word, which it has for every link at once.
func Forwards(link string) (bool, error) {
	b, err := os.ReadFile(sysctl("ipv4", link, "forwarding"))
	return strings.TrimSpace(string(b)) == "1", err
}

// SetForwarding makes a link forward or not; a link that is gone needs none.
func SetForwarding(link string, on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if err := write(sysctl("ipv4", link, "forwarding"), value); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Watch calls changed at each change of a route, but for those that skip says are
// ours, until ctx ends.
func Watch(ctx context.Context, skip func(netip.Prefix) bool, changed func()) error {
	updates := make(chan netlink.RouteUpdate, 16)
	if err := netlink.RouteSubscribe(updates, ctx.Done()); err != nil {
		return fmt.Errorf("watching routes: %w", err)
	}
	matters := func(u netlink.RouteUpdate) bool {
		p, ok := prefix(u.Route)
		return !ok || !skip(p)
	}
	for u := range updates {
		look := matters(u)
		for len(updates) > 0 { // one look for all of them
			look = matters(<-updates) || look
		}
		if look {
			changed()
		}
	}
	return ctx.Err()
}
