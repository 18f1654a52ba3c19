package vmmbus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/vmm"
)

// Timeouts of calls that take longer than others.
const (
	defaultReady = 60 * time.Second
	startGrace   = 60 * time.Second // on top of the guest's time
	stopTimeout  = 60 * time.Second
	saveTimeout  = 10 * time.Minute // a snapshot writes all of a guest's memory
)

// Client implements vmm.Manager by calling org.aegisvm.Vmm1, which the bus
// starts when it is needed.
type Client struct{ conn *bus.Conn }

var _ vmm.Manager = (*Client)(nil)

// NewClient makes a client on conn, which stays the caller's.
func NewClient(conn *bus.Conn) *Client { return &Client{conn: conn} }

func (c *Client) manager() bus.Object { return c.conn.Object(bus.VmmName, bus.VmmPath, bus.VmmManager) }

// within gives a call that has no deadline one.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// Start starts a machine. When the caller gives up, the machine is undone.
func (c *Client) Start(ctx context.Context, s vmm.Spec) (vmm.Info, error) {
	args, err := startArgs(s)
	if err != nil {
		return vmm.Info{}, err
	}
	ready := s.ReadyTimeout
	if ready == 0 {
		ready = defaultReady
	}
	bounded, cancel := within(ctx, ready+startGrace)
	defer cancel()
	var d bus.Dict
	err = c.manager().Call(bounded, "Start", args, &d)
	runtime.KeepAlive(s)
	if err != nil {
		if bounded.Err() != nil {
			c.undo(s.ID)
		}
		return vmm.Info{}, plain(err)
	}
	return info(d)
}

// undo ends a start that nobody waits for any more.
func (c *Client) undo(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if c.Stop(ctx, id) == nil {
		_ = c.Remove(ctx, id) // the failed start may have done so
	}
}

func startArgs(s vmm.Spec) (bus.Args, error) {
	spec, err := bus.ToDict(wireSpec{MemoryMiB: s.MemoryMiB, VCPUs: s.VCPUs, Network: s.Network, Restore: s.Restore, ReadyTimeoutMS: s.ReadyTimeout.Milliseconds()})
	if err != nil {
		return nil, err
	}
	disks := []wireDisk{}
	for _, d := range s.Disks {
		fd, err := bus.FD(d.File)
		if err != nil {
			return nil, api.Errorf(api.InvalidArgument, "disk %q of machine %q: %w", d.Role, s.ID, err)
		}
		disks = append(disks, wireDisk{string(d.Role), d.ReadOnly, fd})
	}
	return bus.Args{s.ID, spec, disks}, nil
}

func info(d bus.Dict) (i vmm.Info, err error) {
	if err := bus.FromDict(d, &i); err != nil {
		return i, api.Errorf(api.Internal, "reading what vmmd says of a machine: %w", err)
	}
	return i, nil
}

// plain makes an *api.Error of an error whose context ended, too.
func plain(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return api.Errorf(api.Unavailable, "%w", err)
	}
	return err
}

// Get tells of one machine.
func (c *Client) Get(ctx context.Context, id string) (vmm.Info, error) {
	var d bus.Dict
	if err := c.manager().Call(ctx, "Get", bus.Args{id}, &d); err != nil {
		return vmm.Info{}, plain(err)
	}
	return info(d)
}

// List tells of all machines.
func (c *Client) List(ctx context.Context) ([]vmm.Info, error) {
	var all []bus.Dict
	if err := c.manager().Call(ctx, "List", nil, &all); err != nil {
		return nil, plain(err)
	}
	return bus.FromDicts(all, info)
}

// Connect dials a port of a machine's guest.
func (c *Client) Connect(ctx context.Context, id string, port uint32) (*os.File, error) {
	return c.socket(ctx, "Connect", id, port)
}

// Dialer gives a socket over which the port is dialled.
func (c *Client) Dialer(ctx context.Context, id string, port uint32) (*os.File, error) {
	return c.socket(ctx, "Dialer", id, port)
}

func (c *Client) socket(ctx context.Context, member, id string, port uint32) (*os.File, error) {
	var f *os.File
	if err := c.manager().Call(ctx, member, bus.Args{id, port}, &f); err != nil {
		return nil, plain(err)
	}
	return f, nil
}

func (c *Client) call(ctx context.Context, limit time.Duration, member string, args ...any) error {
	ctx, cancel := within(ctx, limit)
	defer cancel()
	return plain(c.manager().Call(ctx, member, args))
}

// Pause stops a machine's processors.
func (c *Client) Pause(ctx context.Context, id string) error {
	return c.call(ctx, bus.Timeout, "Pause", id)
}

// Resume lets them go on.
func (c *Client) Resume(ctx context.Context, id string) error {
	return c.call(ctx, bus.Timeout, "Resume", id)
}

// Snapshot writes a paused machine to a new snapshot.
func (c *Client) Snapshot(ctx context.Context, id, snapshot string) (s vmm.Saved, err error) {
	ctx, cancel := within(ctx, saveTimeout)
	defer cancel()
	var d bus.Dict
	if err := c.manager().Call(ctx, "Snapshot", bus.Args{id, snapshot}, &d); err != nil {
		return s, plain(err)
	}
	return saved(d)
}

func saved(d bus.Dict) (s vmm.Saved, err error) {
	if err := bus.FromDict(d, &s); err != nil {
		return s, api.Errorf(api.Internal, "reading what vmmd says of a snapshot: %w", err)
	}
	return s, nil
}

// Snapshots lists the snapshots.
func (c *Client) Snapshots(ctx context.Context) ([]vmm.Saved, error) {
	var all []bus.Dict
	if err := c.manager().Call(ctx, "Snapshots", nil, &all); err != nil {
		return nil, plain(err)
	}
	return bus.FromDicts(all, saved)
}

// RemoveSnapshot deletes a snapshot.
func (c *Client) RemoveSnapshot(ctx context.Context, snapshot string) error {
	return c.call(ctx, stopTimeout, "RemoveSnapshot", snapshot)
}

// Stop pulls a machine's plug and waits until it is gone.
func (c *Client) Stop(ctx context.Context, id string) error {
	return c.call(ctx, stopTimeout, "Stop", id)
}

// Shutdown asks a machine's guest to leave in order.
func (c *Client) Shutdown(ctx context.Context, id string) error {
	return c.call(ctx, bus.Timeout, "Shutdown", id)
}

// Remove forgets an ended machine.
func (c *Client) Remove(ctx context.Context, id string) error {
	return c.call(ctx, bus.Timeout, "Remove", id)
}

// Support tells what the driver can do.
func (c *Client) Support(ctx context.Context) (vmm.Support, error) {
	var d bus.Dict
	if err := c.manager().Call(ctx, "Support", nil, &d); err != nil {
		return vmm.Support{}, plain(err)
	}
	var s vmm.Support
	if err := bus.FromDict(d, &s); err != nil {
		return s, api.Errorf(api.Internal, "reading what vmmd says of its driver: %w", err)
	}
	return s, nil
}

func watchError(err error) error { return plain(fmt.Errorf("watching machines: %w", err)) }
