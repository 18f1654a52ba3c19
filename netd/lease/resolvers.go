package lease

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/xfeldman/aegisvm/netd"
)

// Resolvers are the addresses at which guests ask for names.
func Resolvers(leases iter.Seq[netd.Lease]) []netip.Addr {
	all := []netip.Addr{}
	for l := range leases {
		if l.Resolver.IsValid() && !slices.Contains(all, l.Resolver) {
			all = append(all, l.Resolver)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}
