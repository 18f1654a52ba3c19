package host

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/nft"
	"github.com/xfeldman/aegisvm/netd/readers"
)

// denials are what guests were denied. The kernel says that some guest was denied
// something, some times a second at most; what, and which guest, the counters tell.
type denials struct {
	ear  *nft.Ear // nil where the kernel tells nobody
	deaf error    // why

	told    map[string]map[string]uint64 // by link and counter; guarded by Network.mu
	due     bool                         // more may have been counted; guarded by Network.mu
	readers readers.Readers[netd.Denial]
}

// denialPause is the least time between two denials of one machine.
const denialPause = time.Second

// listen makes the kernel tell of denials, if it can.
func (n *Network) listen() {
	group := n.options.group()
	err := n.table.CanTell(group)
	if err == nil {
		n.denials.ear, err = nft.Listen(group)
	}
	if n.denials.deaf = err; err == nil {
		n.table.Group = group
	}
}

// followDenials tells of denials until Close: at once, and then once a second as
// long as there are more.
func (n *Network) followDenials() {
	if n.denials.deaf != nil {
		n.log.Warn(untold, "error", n.denials.deaf)
		return
	}
	n.tellDenials() // nobody listens yet: what was counted before is not news
	heard := make(chan struct{}, 1)
	n.tasks.Go(func() {
		err := n.denials.ear.Hear(func() {
			select {
			case heard <- struct{}{}:
			default:
			}
		})
		if n.ctx.Err() == nil {
			n.log.Error("denials are told no more", "error", err)
		}
	})
	n.tasks.Go(func() {
		for n.happens(heard) {
			for n.tellDenials() && n.pause(denialPause) {
			}
		}
	})
}

// happens waits for something; false at Close.
func (n *Network) happens(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// pause lets time pass; false at Close.
func (n *Network) pause(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(n.ctx, d)
	defer cancel()
	<-ctx.Done()
	return n.ctx.Err() == nil
}

// tellDenials tells what was counted since the last time, and whether it was
// anything.
func (n *Network) tellDenials() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.denials.due = n.tellCounted(slices.Collect(maps.Values(n.leases))...)
	return n.denials.due
}

// tellCounted is tellDenials of some machines; the caller holds mu.
func (n *Network) tellCounted(leases ...netd.Lease) (told bool) {
	if len(leases) == 0 {
		return false
	}
	counters, err := n.table.AllCounters()
	if err != nil {
		n.log.Warn("counters cannot be read", "error", err)
		return false
	}
	for _, l := range leases {
		if packets := n.denials.news(l.Link, counters[l.Link]); len(packets) > 0 {
			told = true
			n.denials.readers.Tell(netd.Denial{Machine: l.Machine, Packets: packets})
		}
	}
	return told
}

// news are what counters say that was not told. One that counts less than before
// was made anew.
func (d *denials) news(link string, counters []nft.Counter) map[string]uint64 {
	news, now := map[string]uint64{}, map[string]uint64{}
	for _, c := range counters {
		if !c.Denies() {
			continue
		}
		before := d.told[link][c.Name]
		if c.Packets < before {
			before = 0
		}
		now[c.Name] = c.Packets
		if c.Packets > before {
			news[c.Name] = c.Packets - before
		}
	}
	if d.told == nil {
		d.told = map[string]map[string]uint64{}
	}
	d.told[link] = now
	return news
}

// Denials implements Network.
func (n *Network) Denials(ctx context.Context) (<-chan netd.Denial, error) {
	if n.denials.deaf != nil {
		return nil, api.Errorf(api.Unavailable, "%s: %w", untold, n.denials.deaf)
	}
	return n.denials.readers.Follow(ctx), nil
}

const untold = "denials are counted and not told"

// note says what the host cannot do.
func (d *denials) note() []string {
	if d.deaf == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s: %v", untold, d.deaf)}
}
