package run

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// restTimeout is how long an instance that lost its machine may take to say
// why; aegisd hears of it at once.
const restTimeout = 20 * time.Second

// hold is the client's session, over the restarts of aegisd that the streams
// outlive. An aegisd that is started again takes a client that does not tell
// that it is there for dead.
type hold struct {
	letGo context.CancelFunc // gives the session up

	mu    sync.Mutex    // guards ended
	ended chan struct{} // closed when the present session has ended
}

// hold takes over the session among the streams.
func (c *Client) hold(ctx context.Context, id string, streams *api.Streams) *hold {
	ctx, cancel := context.WithCancel(ctx)
	h := &hold{letGo: cancel, ended: make(chan struct{})}
	session := streams.Session
	streams.Session = nil
	if session != nil {
		go c.keep(ctx, id, h, session) // ends with ctx
	}
	return h
}

// keep holds a session, and the next one. The last one is closed only when it
// is given up: a client that has left is told nothing more, not even why its
// program ended.
func (c *Client) keep(ctx context.Context, id string, h *hold, session *os.File) {
	for {
		readToEnd(ctx, session)
		close(h.ended)
		next := c.rejoin(ctx, id)
		if next == nil {
			<-ctx.Done()
		}
		session.Close()
		if next == nil {
			return
		}
		session = next
		h.renew()
	}
}

func (h *hold) renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = make(chan struct{})
}

// awaitEnd waits until aegisd ends the session: the instance has come to rest
// then, or aegisd is gone.
func (h *hold) awaitEnd(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	h.mu.Lock()
	ended := h.ended
	h.mu.Unlock()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return nil
}

// readToEnd returns when a session has ended, or ctx, which closes it.
func readToEnd(ctx context.Context, session *os.File) {
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	var buf [1]byte
	for {
		if n, err := session.Read(buf[:]); n == 0 || err != nil {
			return
		}
	}
}

// rejoin asks for a new session until an aegisd is there to answer; nil where
// there is none to be had.
func (c *Client) rejoin(ctx context.Context, id string) *os.File {
	for backoff := 50 * time.Millisecond; ; backoff = min(2*backoff, time.Second) {
		session, err := c.askAgain(ctx, id)
		switch {
		case err == nil:
			return session
		case api.CodeOf(err) != api.Unavailable, !pause(ctx, backoff):
			return nil
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Client) askAgain(ctx context.Context, id string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.Aegis.Rejoin(ctx, id)
}
