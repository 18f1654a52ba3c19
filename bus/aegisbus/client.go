package aegisbus

import (
	"context"
	"encoding/json"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// Client speaks to aegisd over the bus. It is an api.Aegis; the Caller given
// to Create is ignored, the bus says who calls.
type Client struct {
	conn *bus.Conn
	root bus.Object
}

var _ api.Aegis = (*Client)(nil)

// NewClient makes a client on a connection, which stays the caller's to
// close.
func NewClient(conn *bus.Conn) *Client {
	return &Client{conn: conn, root: conn.Object(bus.AegisName, bus.AegisPath, bus.AegisManager)}
}

// How long calls may take that wait for a machine: stop for the grace of its
// processes, delete for the release, attach for an image to be built and
// booted.
const (
	stopTimeout   = time.Minute
	attachTimeout = 30 * time.Minute
)

// Create implements api.Aegis.
func (c *Client) Create(ctx context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return api.Instance{}, api.Errorf(api.InvalidArgument, "spec: %w", err)
	}
	var path dbus.ObjectPath
	return c.instance(ctx, "CreateInstance", string(text), &path)
}

// Get implements api.Aegis.
func (c *Client) Get(ctx context.Context, ref string) (api.Instance, error) {
	var path dbus.ObjectPath
	return c.instance(ctx, "GetInstance", ref, &path)
}

// List implements api.Aegis.
func (c *Client) List(ctx context.Context) ([]api.Instance, error) {
	var text string
	if err := c.call(ctx, "DescribeInstances", nil, &text); err != nil {
		return nil, err
	}
	var all []api.Instance
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, api.Errorf(api.Internal, "reading the answer of aegisd: %w", err)
	}
	return all, nil
}

// list makes a call that answers with an array of structures.
func list[T any](ctx context.Context, c *Client, method string, args ...any) ([]T, error) {
	var dicts []bus.Dict
	if err := c.call(ctx, method, args, &dicts); err != nil {
		return nil, err
	}
	return read[T](dicts)
}

func read[T any](dicts []bus.Dict) ([]T, error) {
	return bus.FromDicts(dicts, func(d bus.Dict) (v T, err error) { return v, fromDict(d, &v) })
}

// Start implements api.Aegis.
func (c *Client) Start(ctx context.Context, ref string) (api.Instance, error) {
	return c.instance(ctx, "StartInstance", ref)
}

// Stop implements api.Aegis.
func (c *Client) Stop(ctx context.Context, ref string) (api.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.instance(ctx, "StopInstance", ref)
}

// Delete implements api.Aegis.
func (c *Client) Delete(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return c.call(ctx, "DeleteInstance", bus.Args{ref})
}

// Signal implements api.Aegis.
func (c *Client) Signal(ctx context.Context, ref string, signal int) error {
	return c.call(ctx, "SignalInstance", bus.Args{ref, int32(signal)})
}

// Status implements api.Aegis.
func (c *Client) Status(ctx context.Context) (st api.Status, err error) {
	var d bus.Dict
	if err := c.call(ctx, "GetStatus", nil, &d); err != nil {
		return st, err
	}
	return st, fromDict(d, &st)
}

// Attach implements api.Aegis.
func (c *Client) Attach(ctx context.Context, ref string) (*api.Streams, error) {
	ctx, cancel := context.WithTimeout(ctx, attachTimeout)
	defer cancel()
	return c.streams(ctx, "AttachInstance", bus.Args{ref})
}

// instance makes a call whose last answer is an instance.
func (c *Client) instance(ctx context.Context, member, arg string, before ...any) (in api.Instance, err error) {
	var d bus.Dict
	if err := c.call(ctx, member, bus.Args{arg}, append(before, &d)...); err != nil {
		return in, err
	}
	return in, fromDict(d, &in)
}

func (c *Client) call(ctx context.Context, member string, args bus.Args, results ...any) error {
	if err := c.root.Call(ctx, member, args, results...); err != nil {
		if ctx.Err() != nil {
			return api.Errorf(api.Unavailable, "waiting for aegisd: %w", context.Cause(ctx))
		}
		return api.AsError(err)
	}
	return nil
}

func fromDict(d bus.Dict, v any) error {
	if err := bus.FromDict(d, v); err != nil {
		return api.Errorf(api.Internal, "reading the answer of aegisd: %w", err)
	}
	return nil
}
