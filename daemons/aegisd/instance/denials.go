package instance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
)

// denialWords are the reasons of denials, by the name of their counter.
var denialWords = map[string]string{
	"mac":        "a frame with another hardware address than the guest's",
	"arp-mac":    "ARP with another hardware address than the guest's",
	"arp-ip":     "ARP with another address than the guest's",
	"arp-target": "ARP for another address than the gateway's",
	"ipv6":       "IPv6",
	"ethertype":  "a frame that is neither IPv4 nor ARP",
	"ip":         "another source address than the guest's",
	"broadcast":  "a frame to others than the gateway",
	"host":       "a port of the host that is not named",
	"inbound":    "a packet to the guest that it has not asked for",
	"flood":      "too many connections at once",
	"link-local": "a link-local address, such as the metadata of clouds",
	"reserved":   "a reserved or multicast address",
	"guests":     "another guest",
	"private":    "a private network that no rule names",
	"resolver":   "another resolver",
	"egress":     "an address that no rule allows",
}

// followDenials tells of what guests are denied, as often as the network does.
func (s *Service) followDenials() error {
	denials, err := s.Config.Network.Denials(s.ctx)
	if api.CodeOf(err) == api.Unavailable {
		s.Log.Warn("events tell of no denials", "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("following denials: %w", err)
	}
	s.tasks.Go(func() {
		for {
			select {
			case d, more := <-denials:
				if !more {
					return
				}
				s.denied(d)
			case <-s.ctx.Done():
				return
			}
		}
	})
	return nil
}

// denied tells of one machine's denials; of one that is nobody's any more there is
// nobody to tell of.
func (s *Service) denied(d netd.Denial) {
	o := s.ownerOfNetwork(d.Machine)
	if o == nil {
		return
	}
	in := o.view.Load()
	for _, reason := range slices.Sorted(maps.Keys(d.Packets)) {
		s.events.send(api.Event{
			Type: api.EventDenied, Instance: o.id, Handle: in.Handle, Phase: in.Phase,
			Message: fmt.Sprintf("%d denied: %s", d.Packets[reason], cmp.Or(denialWords[reason], reason)),
			Reason:  reason, Packets: d.Packets[reason],
		})
	}
}

func (s *Service) ownerOfNetwork(name string) *owner {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.owners {
		if n := o.network.Load(); n != nil && *n == name {
			return o
		}
	}
	return nil
}
