package netbus

import (
	"context"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/netd"
)

// Denials implements netd.Network. It does not start netd, and goes on with the
// next one; where netd tells of none there are none. It ends with ctx or the
// connection.
func (c *Client) Denials(ctx context.Context) (<-chan netd.Denial, error) {
	signals, err := c.manager.Subscribe(ctx, "Denied")
	if err != nil {
		return nil, err
	}
	out := make(chan netd.Denial)
	go func() {
		defer close(out)
		for sig := range signals.C {
			d, ok := denial(sig)
			if !ok {
				continue
			}
			select {
			case out <- d:
			case <-ctx.Done():
			}
		}
	}()
	return out, nil
}

// denial reads a signal, which nobody has checked.
func denial(sig bus.Signal) (d netd.Denial, ok bool) {
	if len(sig.Body) != 2 {
		return d, false
	}
	d.Machine, ok = sig.Body[0].(string)
	if ok {
		d.Packets, ok = sig.Body[1].(map[string]uint64)
	}
	return d, ok
}
