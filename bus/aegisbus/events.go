package aegisbus

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// Events implements api.Aegis. The stream ends when aegisd goes or lost
// events itself.
func (c *Client) Events(ctx context.Context) (<-chan api.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	owners, err := c.conn.SubscribeOwner(ctx, bus.AegisName)
	if err != nil {
		cancel()
		return nil, api.AsError(err)
	}
	signals, err := c.root.Subscribe(ctx, "Event")
	if err == nil {
		_, err = c.Status(ctx) // starts aegisd where it is not running, or fails
	}
	if err != nil {
		cancel()
		return nil, api.AsError(err)
	}
	out := make(chan api.Event)
	go func() {
		defer close(out)
		defer cancel()
		forward(ctx, signals.C, owners.C, out)
	}()
	return out, nil
}

// forward ends with ctx, with the connection, when aegisd's name is given up,
// and at a gap in the numbers.
func forward(ctx context.Context, signals, owners <-chan bus.Signal, out chan<- api.Event) {
	var last uint64
	for {
		select {
		case change, more := <-owners:
			if !more || lost(change) {
				return
			}
		case sig, more := <-signals:
			if !more {
				return
			}
			ev, err := event(sig)
			if err != nil || last != 0 && ev.Seq != last+1 {
				return
			}
			last = ev.Seq
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			}
		}
	}
}

// lost tells whether the name had an owner that it has no more; the first
// owner of a service that the bus has just started is none that we lose.
func lost(change bus.Signal) bool {
	return len(change.Body) == 3 && change.Body[1] != ""
}

func event(sig bus.Signal) (ev api.Event, err error) {
	if len(sig.Body) != 1 {
		return ev, api.Errorf(api.Internal, "malformed event")
	}
	d, ok := sig.Body[0].(bus.Dict)
	if !ok {
		return ev, api.Errorf(api.Internal, "malformed event")
	}
	return ev, bus.FromDict(d, &ev)
}
