package proto

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// Calls counts the calls of control connections that are not answered yet, so
// that a guest which leaves does not take its last answers with it. The zero
// value is ready for use.
type Calls struct {
	mu    sync.Mutex // guards the fields below
	open  int        // under way, or their answers not written
	quiet []chan struct{}
}

// Await waits until every call is answered, or ctx ends.
func (c *Calls) Await(ctx context.Context) error {
	quiet := make(chan struct{})
	c.mu.Lock()
	c.quiet = append(c.quiet, quiet)
	c.mu.Unlock()
	c.add(0)
	select {
	case <-quiet:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Calls) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open += n; c.open > 0 {
		return
	}
	for _, q := range c.quiet {
		close(q)
	}
	c.quiet = nil
}

// control is a control connection. Its server writes one answer after the
// other, each at once but for long ones.
type control struct {
	net.Conn
	all     *Calls
	greeted atomic.Bool

	mu     sync.Mutex // guards the fields below
	owed   int        // answers that are to be written
	closed bool
}

func (c *control) begin() { c.all.add(1) }

// owe is told of a call whose answer comes next.
func (c *control) owe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.all.add(-1) // nobody will have it
		return
	}
	c.owed++
}

func (c *control) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owed > 0 {
		c.owed--
		c.all.add(-1)
	}
	return n, err
}

func (c *control) Close() error {
	c.mu.Lock()
	c.all.add(-c.owed)
	c.owed, c.closed = 0, true
	c.mu.Unlock()
	return c.Conn.Close()
}
