package netbus

import (
	"context"
	"net/netip"

	"github.com/xfeldman/aegisvm/bus"
)

// Gateways implements netd.Network. It does not start netd: while there is none,
// nothing is told, and what was told before holds. It ends with ctx or the
// connection.
func (c *Client) Gateways(ctx context.Context) (<-chan []netip.Addr, error) {
	ctx, cancel := context.WithCancel(ctx)
	signals, err := c.names.Subscribe(ctx, "GatewaysChanged")
	var owners *bus.Subscription
	if err == nil {
		owners, err = c.conn.SubscribeOwner(ctx, bus.NetworkName)
	}
	var there bool
	if err == nil {
		there, err = c.conn.Owned(ctx, bus.NetworkName)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	out := make(chan []netip.Addr)
	go func() {
		defer close(out)
		defer cancel()
		c.followGateways(ctx, there, signals.C, owners.C, out)
	}()
	return out, nil
}

// followGateways asks whenever a netd has come, and then takes its word.
func (c *Client) followGateways(ctx context.Context, ask bool, signals, owners <-chan bus.Signal, out chan<- []netip.Addr) {
	for {
		var told []string
		switch {
		case ask:
			ask = false
			if err := call(ctx, c.names, "Gateways", nil, &told); err != nil {
				continue // it has gone again; its next owner is asked
			}
		default:
			select {
			case change, more := <-owners:
				if !more {
					return
				}
				ask = len(change.Body) == 3 && change.Body[2] != ""
				continue
			case sig, more := <-signals:
				if !more {
					return
				}
				if len(sig.Body) == 1 { // nobody has checked it
					told, _ = sig.Body[0].([]string)
				}
			}
		}
		addrs, err := readAddresses(told)
		if err != nil {
			continue
		}
		select {
		case out <- addrs:
		case <-ctx.Done():
			return
		}
	}
}
