package routerbus

import (
	"context"
	"net/netip"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/router"
)

// Client implements router.Router by calling org.aegisvm.Router1, which the
// bus starts when it is needed.
type Client struct{ conn *bus.Conn }

var _ router.Router = (*Client)(nil)

// NewClient makes a client on conn, which stays the caller's.
func NewClient(conn *bus.Conn) *Client { return &Client{conn} }

func (c *Client) manager() bus.Object {
	return c.conn.Object(bus.RouterName, bus.RouterPath, bus.RouterManager)
}

// Expose implements router.Router.
func (c *Client) Expose(ctx context.Context, p router.Port) (router.Endpoint, error) {
	d, err := bus.ToDict(p)
	if err != nil {
		return router.Endpoint{}, err
	}
	var out bus.Dict
	if err := c.manager().Call(ctx, "Expose", bus.Args{d}, &out); err != nil {
		return router.Endpoint{}, err
	}
	return endpoint(out)
}

func endpoint(d bus.Dict) (e router.Endpoint, err error) {
	if err := bus.FromDict(d, &e); err != nil {
		return e, api.Errorf(api.Internal, "reading what routerd says of a port: %w", err)
	}
	return e, nil
}

// Unexpose implements router.Router.
func (c *Client) Unexpose(ctx context.Context, instance string, guestPort int, protocol api.Protocol) error {
	if guestPort < 1 || guestPort > 65535 {
		return api.Errorf(api.InvalidArgument, "port %d: expected 1 to 65535", guestPort)
	}
	return c.manager().Call(ctx, "Unexpose", bus.Args{instance, uint16(guestPort), string(protocol)})
}

// Switch implements router.Router.
func (c *Client) Switch(ctx context.Context, instance string, on bool) error {
	return c.manager().Call(ctx, "Switch", bus.Args{instance, on})
}

// Forget implements router.Router.
func (c *Client) Forget(ctx context.Context, instance string) error {
	return c.manager().Call(ctx, "Forget", bus.Args{instance})
}

// List implements router.Router.
func (c *Client) List(ctx context.Context) ([]router.Endpoint, error) {
	var all []bus.Dict
	if err := c.manager().Call(ctx, "List", nil, &all); err != nil {
		return nil, err
	}
	return bus.FromDicts(all, endpoint)
}

// Front implements router.Router.
func (c *Client) Front(ctx context.Context) (f router.Front, err error) {
	var d bus.Dict
	if err := c.manager().Call(ctx, "Front", nil, &d); err != nil {
		return f, err
	}
	if err := bus.FromDict(d, &f); err != nil {
		return f, api.Errorf(api.Internal, "reading what routerd says of its front: %w", err)
	}
	return f, nil
}

// Watch implements router.Router. A routerd that has been started anew is a
// change, too.
func (c *Client) Watch(ctx context.Context) (<-chan struct{}, error) {
	signals, err := c.manager().Subscribe(ctx, "PortsChanged")
	if err != nil {
		return nil, err
	}
	owners, err := c.conn.SubscribeOwner(ctx, bus.RouterName)
	if err != nil {
		return nil, err
	}
	out := make(chan struct{}, 1)
	out <- struct{}{}
	go func() { // ends with ctx or the connection
		defer close(out)
		for {
			var ok bool
			select {
			case _, ok = <-signals.C:
			case _, ok = <-owners.C:
			}
			if !ok {
				return
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out, nil
}

// wakeTimeout is how long aegisd may take to wake an instance; the router
// gives up before.
const wakeTimeout = 5 * time.Minute

// Waker implements router.Waker by calling org.aegisvm.Aegis1, over a
// connection that it makes when it is needed and makes anew when it was lost:
// ports are served before there is a bus.
type Waker struct{ conns *conns }

var _ router.Waker = (*Waker)(nil)

// NewWaker makes a waker on the bus at address.
func NewWaker(address string) *Waker { return &Waker{&conns{address: address}} }

// Close ends its connection.
func (w *Waker) Close() { w.conns.close() }

// Wake implements router.Waker.
func (w *Waker) Wake(ctx context.Context, instance string, renew bool) (router.Awake, error) {
	conn, err := w.conns.get(ctx)
	if err != nil {
		return router.Awake{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, wakeTimeout)
	defer cancel()
	var a router.Awake
	var started int64
	var address string
	aegis := conn.Object(bus.AegisName, bus.AegisPath, bus.AegisWaker)
	if err := aegis.Call(ctx, "Wake", bus.Args{instance, renew}, &a.Lease, &a.Dialer, &started, &address); err != nil {
		return router.Awake{}, err
	}
	a.Started = time.UnixMicro(started)
	if address == "" {
		return a, nil
	}
	if a.Address, err = netip.ParseAddr(address); err != nil {
		a.Close()
		return router.Awake{}, api.Errorf(api.Internal, "reading where aegisd's guest is: %w", err)
	}
	return a, nil
}
