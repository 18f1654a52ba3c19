package netbus

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// Client speaks to netd over the bus, which starts it when it is needed. It is
// a netd.Network.
type Client struct {
	conn                 *bus.Conn
	manager, taps, names bus.Object
}

var _ netd.Network = (*Client)(nil)

// NewClient makes a client on a connection, which stays the caller's to close.
func NewClient(conn *bus.Conn) *Client {
	object := func(name string) bus.Object { return conn.Object(bus.NetworkName, bus.NetworkPath, name) }
	return &Client{conn, object(bus.NetworkManager), object(bus.NetworkTaps), object(bus.NetworkNames)}
}

// call makes a call with a machine's id or another text first; what a string
// on the bus cannot be would cost the connection.
func call(ctx context.Context, o bus.Object, method string, args bus.Args, results ...any) error {
	for _, a := range args {
		if s, ok := a.(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
			return api.Errorf(api.InvalidArgument, "%.80q: expected UTF-8 without NUL", s)
		}
	}
	return o.Call(ctx, method, args, results...)
}

func get[T any](ctx context.Context, o bus.Object, method string, args ...any) (v T, err error) {
	var d bus.Dict
	if err := call(ctx, o, method, args, &d); err != nil {
		return v, err
	}
	return read[T](d)
}

func read[T any](d bus.Dict) (v T, err error) {
	if err := bus.FromDict(d, &v); err != nil {
		return v, api.Errorf(api.Internal, "answer of netd: %w", err)
	}
	return v, nil
}

// Attach implements netd.Network.
func (c *Client) Attach(ctx context.Context, machine string, p policy.Policy) (netd.Lease, error) {
	d, err := writePolicy(p)
	if err != nil {
		return netd.Lease{}, err
	}
	return get[netd.Lease](ctx, c.manager, "Attach", machine, d)
}

// writePolicy refuses here what has no text that netd could read.
func writePolicy(p policy.Policy) (bus.Dict, error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	return bus.ToDict(p)
}

// OpenTap implements netd.Network.
func (c *Client) OpenTap(ctx context.Context, machine string) (*os.File, error) {
	var f *os.File
	err := call(ctx, c.taps, "OpenTap", bus.Args{machine}, &f)
	return f, err
}

// SetPolicy implements netd.Network.
func (c *Client) SetPolicy(ctx context.Context, machine string, p policy.Policy) error {
	d, err := writePolicy(p)
	if err != nil {
		return err
	}
	return call(ctx, c.manager, "SetPolicy", bus.Args{machine, d})
}

// Pin implements netd.Network.
func (c *Client) Pin(ctx context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error {
	return call(ctx, c.names, "Pin", bus.Args{machine, name, writeAddresses(addrs), uint64(max(ttl, 0).Milliseconds())})
}

// Guest implements netd.Network.
func (c *Client) Guest(ctx context.Context, addr netip.Addr) (netd.Lease, error) {
	return get[netd.Lease](ctx, c.names, "Guest", addr.String())
}

// Detach implements netd.Network.
func (c *Client) Detach(ctx context.Context, machine string) error {
	return call(ctx, c.manager, "Detach", bus.Args{machine})
}

// Get implements netd.Network.
func (c *Client) Get(ctx context.Context, machine string) (netd.State, error) {
	return get[netd.State](ctx, c.manager, "Get", machine)
}

// List implements netd.Network.
func (c *Client) List(ctx context.Context) ([]netd.Lease, error) {
	var dicts []bus.Dict
	if err := call(ctx, c.manager, "List", nil, &dicts); err != nil {
		return nil, err
	}
	return bus.FromDicts(dicts, read[netd.Lease])
}

// Support implements netd.Network.
func (c *Client) Support(ctx context.Context) (netd.Support, error) {
	return get[netd.Support](ctx, c.manager, "Support")
}
