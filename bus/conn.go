package bus

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
)

// Timeout bounds every call whose context has no deadline of its own.
const Timeout = 25 * time.Second

// Conn is a connection to a message bus, as a client, as a server or both.
type Conn struct {
	raw    *dbus.Conn
	dialed chan struct{} // closed when raw is set: calls may come before
	server *server
	finish func() // waits for what was sent, once closed

	mu    sync.Mutex // guards creds
	creds map[string]api.Caller
}

// Dial connects to the bus at address: a D-Bus address such as
// "unix:path=/run/bus", or "" or "system" for the system bus. The connection
// ends when ctx does. A bus that cannot be reached is api.Unavailable.
func Dial(ctx context.Context, address string) (*Conn, error) {
	c := &Conn{dialed: make(chan struct{}), creds: make(map[string]api.Caller)}
	c.server = newServer(c)
	raw, finish, err := connect(ctx, address, dbus.WithContext(ctx), dbus.WithHandler(c.server),
		dbus.WithSignalHandler(dbus.NewSequentialSignalHandler()))
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "connecting to the message bus %q: %w", cmp.Or(address, "system"), err)
	}
	if !raw.SupportsUnixFDs() {
		raw.Close()
		return nil, api.Errorf(api.Unavailable, "the message bus %q cannot pass file descriptors: use a unix socket", address)
	}
	c.raw, c.finish = raw, finish
	close(c.dialed)
	return c, nil
}

// Close ends the connection; calls that wait end with an error. What was sent
// before still reaches the bus, unless that takes longer than a second.
func (c *Conn) Close() error {
	err := c.raw.Close()
	c.finish()
	return err
}

// Done is closed when the connection has ended, by whichever side.
func (c *Conn) Done() <-chan struct{} { return c.raw.Context().Done() }

// UniqueName is the name that the bus gave this connection.
func (c *Conn) UniqueName() string { return c.raw.Names()[0] }

// Claim requests a well-known name. It comes last, when all objects are
// exported; a name that another process owns is api.Exists.
func (c *Conn) Claim(ctx context.Context, name string) error {
	var reply uint32
	err := c.bus().Call(ctx, "RequestName", Args{name, uint32(dbus.NameFlagDoNotQueue)}, &reply)
	if err != nil {
		return fmt.Errorf("claiming the bus name %s: %w", name, err)
	}
	if r := dbus.RequestNameReply(reply); r != dbus.RequestNameReplyPrimaryOwner && r != dbus.RequestNameReplyAlreadyOwner {
		return api.Errorf(api.Exists, "the bus name %s is taken: another instance of this daemon runs", name)
	}
	return nil
}

// HasOwner tells whether somebody owns a well-known name, or the bus could
// start somebody who would.
func (c *Conn) HasOwner(ctx context.Context, name string) (bool, error) {
	if owned, err := c.Owned(ctx, name); err != nil || owned {
		return owned, err
	}
	var names []string
	if err := c.bus().Call(ctx, "ListActivatableNames", nil, &names); err != nil {
		return false, err
	}
	for _, n := range names {
		if n == name {
			return true, nil
		}
	}
	return false, nil
}

// Owned tells whether somebody owns a well-known name now.
func (c *Conn) Owned(ctx context.Context, name string) (owned bool, err error) {
	err = c.bus().Call(ctx, "NameHasOwner", Args{name}, &owned)
	return owned, err
}

// bus is the bus daemon itself.
func (c *Conn) bus() Object {
	return c.Object("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
}
