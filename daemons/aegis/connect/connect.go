package connect

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
)

// Client is a connection to aegisd, which may or may not be running.
type Client struct {
	api.Aegis
	Target Target
	conn   *bus.Conn // nil over REST
	close  func()
}

// Close ends the connection.
func (c *Client) Close() { c.close() }

// Open connects to the target. That aegisd is not running is found out by the
// first call over REST, and here over D-Bus, where it is api.Unavailable.
func Open(ctx context.Context, t Target) (*Client, error) {
	if t.Bus == "" {
		rest := restapi.NewClient(t.Socket)
		return &Client{Aegis: rest, Target: t, close: rest.Close}, nil
	}
	conn, err := bus.Dial(ctx, t.Bus)
	if err != nil {
		return nil, err
	}
	there, err := conn.HasOwner(ctx, bus.AegisName)
	if err == nil && !there {
		err = ErrNotRunning()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return over(conn, t), nil
}

// Dial chooses the target and connects to it: what Choose and Open do, on one
// connection to the bus instead of two.
func Dial(ctx context.Context) (*Client, error) {
	t, conn, err := choose(ctx)
	switch {
	case err != nil:
		return nil, err
	case conn != nil:
		return over(conn, t), nil
	}
	return Open(ctx, t)
}

func over(conn *bus.Conn, t Target) *Client {
	return &Client{Aegis: aegisbus.NewClient(conn), Target: t, conn: conn, close: func() { conn.Close() }}
}

// ErrNotRunning is the error for an aegisd that is not there.
func ErrNotRunning() error {
	return api.Errorf(api.Unavailable, "aegisd is not running: start it with `aegis up`")
}

// Running tells whether aegisd runs, without starting it. Over REST only a
// call can tell.
func (c *Client) Running(ctx context.Context) (bool, error) {
	if c.conn == nil {
		_, err := c.Status(ctx)
		if api.CodeOf(err) == api.Unavailable {
			return false, nil
		}
		return err == nil, err
	}
	return c.conn.Owned(ctx, bus.AegisName)
}
