package stack

import (
	"slices"
	"sync/atomic"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// counted are what the stack counts by itself: frames that a guest may not
// send, and what is too much.
var counted = append(slices.Clone(policy.WireCounters), policy.DropFlood)

// counters count it; the zero value has counted nothing.
type counters [len(wire) + 1]struct{ packets, bytes atomic.Uint64 }

func (c *counters) add(name string, bytes int) {
	if i := slices.Index(counted, name); i >= 0 {
		c[i].packets.Add(1)
		c[i].bytes.Add(uint64(bytes))
	}
}

func (c *counters) list() (all []netd.Counter) {
	for i, name := range counted {
		all = append(all, netd.Counter{Name: name, Packets: c[i].packets.Load(), Bytes: c[i].bytes.Load()})
	}
	return all
}
