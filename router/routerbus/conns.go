package routerbus

import (
	"context"
	"sync"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// conns has one connection to a bus, or none.
type conns struct {
	address string

	mu     sync.Mutex // guards the fields below; held while dialling
	conn   *bus.Conn
	closed bool
}

// get gives a connection that is not known to be lost.
func (c *conns) get(ctx context.Context) (*bus.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, api.Errorf(api.Unavailable, "the router is ending")
	}
	if c.conn != nil {
		select {
		case <-c.conn.Done():
			c.conn.Close()
			c.conn = nil
		default:
			return c.conn, nil
		}
	}
	// The connection outlives the call that needs it first.
	conn, err := bus.Dial(context.WithoutCancel(ctx), c.address)
	c.conn = conn
	if err != nil {
		c.conn = nil
		return nil, err
	}
	return conn, nil
}

func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn != nil {
		c.conn.Close()
	}
}
