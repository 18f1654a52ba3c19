package lease

import (
	"net/netip"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// DefaultPools are taken where nothing else is configured, the first that
// nobody else uses. They are not at the beginning of the private networks,
// where everybody's are.
var DefaultPools = []netip.Prefix{
	netip.MustParsePrefix("10.213.0.0/16"), netip.MustParsePrefix("172.29.0.0/16"),
	netip.MustParsePrefix("192.168.208.0/20"), netip.MustParsePrefix("10.214.0.0/16"),
	netip.MustParsePrefix("10.215.0.0/16"), netip.MustParsePrefix("10.216.0.0/16"),
	netip.MustParsePrefix("10.217.0.0/16"), netip.MustParsePrefix("10.218.0.0/16"),
}

// CheckPools refuses networks that cannot be pools.
func CheckPools(pools []netip.Prefix) error {
	for i, p := range pools {
		switch {
		case !p.IsValid() || !p.Addr().Is4() || p.Masked() != p || p.Bits() > 29 || p.Bits() < 8:
			return api.Errorf(api.InvalidArgument, "pool %s: expected a network of IPv4 of 8 to 29 bits, such as 10.213.0.0/16", p)
		case slices.ContainsFunc(pools[:i], p.Overlaps):
			return api.Errorf(api.InvalidArgument, "pool %s overlaps one before it: leave one out", p)
		}
	}
	return nil
}

// Place is an address of a guest and of its gateway.
type Place struct{ Addr, Gateway netip.Addr }

// Choose finds a free place. The gateway is the first address of a pool and
// the same for all guests in it. used are the addresses of guests, taken the
// networks that the host has routes to; claim tells whether the pool is ours.
func Choose(pools []netip.Prefix, used map[netip.Addr]bool, taken []netip.Prefix, claim func(netip.Prefix) bool) (Place, error) {
	for _, pool := range pools {
		near := slices.DeleteFunc(slices.Clone(taken), func(t netip.Prefix) bool { return !t.Overlaps(pool) })
		collides := func(a netip.Addr) bool {
			return slices.ContainsFunc(near, func(t netip.Prefix) bool { return t.Contains(a) })
		}
		gateway := pool.Addr().Next()
		if collides(gateway) || !claim(pool) {
			continue
		}
		for addr := gateway.Next(); pool.Contains(addr); addr = addr.Next() {
			if last := addr.As4()[3]; last != 0 && last != 255 && !used[addr] && !collides(addr) {
				return Place{addr, gateway}, nil
			}
		}
	}
	return Place{}, api.Errorf(api.LimitExceeded,
		"no address is free for another guest in %v: the host has routes to them, or all are given away: configure another pool", pools)
}
