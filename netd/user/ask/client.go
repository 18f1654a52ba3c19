package ask

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"

	"github.com/xfeldman/aegisvm/vmm/packet"
)

// ErrAway is the error of a question that nobody is there to answer.
var ErrAway = errors.New("nobody opens connections just now")

// Client asks, for a stack. Its methods may be called from several goroutines.
type Client struct {
	// Told is called with what comes unasked: Count and Recheck.
	Told func(Answer)

	mu   sync.Mutex // guards the fields below
	now  *line
	last uint64
}

// line is one connection to whoever answers.
type line struct {
	conn    *net.UnixConn
	sending sync.Mutex

	mu      sync.Mutex            // guards waiting
	waiting map[uint64]chan reply // nil when conn has ended
}

type reply struct {
	answer Answer
	file   *os.File
}

// Serve has questions answered over a connection until it or ctx ends, and
// closes it. One that is served already is given up.
func (c *Client) Serve(ctx context.Context, conn *net.UnixConn) {
	l := &line{conn: conn, waiting: map[uint64]chan reply{}}
	c.mu.Lock()
	before := c.now
	c.now = l
	c.mu.Unlock()
	if before != nil {
		before.conn.Close()
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer c.leave(l)
	for {
		var a Answer
		files, err := packet.Receive(conn, &a)
		if err != nil {
			return
		}
		if a.Op == Count || a.Op == Recheck {
			packet.CloseAll(files)
			c.Told(a)
			continue
		}
		l.deliver(a, files)
	}
}

func (c *Client) leave(l *line) {
	l.conn.Close()
	c.mu.Lock()
	if c.now == l {
		c.now = nil
	}
	c.mu.Unlock()
	l.mu.Lock()
	waiting := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, w := range waiting {
		close(w)
	}
}

func (l *line) deliver(a Answer, files []*os.File) {
	l.mu.Lock()
	w := l.waiting[a.ID]
	delete(l.waiting, a.ID)
	l.mu.Unlock()
	if w == nil || len(files) > 1 {
		packet.CloseAll(files)
		files = nil
	}
	if w == nil {
		return
	}
	r := reply{answer: a}
	if len(files) == 1 {
		r.file = files[0]
	}
	w <- r
}

// Ask asks and waits for the answer; its file is nil where there is none, and
// the caller's.
func (c *Client) Ask(ctx context.Context, q Question) (Answer, *os.File, error) {
	c.mu.Lock()
	l := c.now
	c.last++
	q.ID = c.last
	c.mu.Unlock()
	if l == nil {
		return Answer{}, nil, ErrAway
	}
	w := make(chan reply, 1)
	if !l.expect(q.ID, w) || l.send(q) != nil {
		l.forget(q.ID)
		return Answer{}, nil, ErrAway
	}
	select {
	case r, ok := <-w:
		if !ok {
			return Answer{}, nil, ErrAway
		}
		return r.answer, r.file, nil
	case <-ctx.Done():
		if !l.forget(q.ID) { // it is on its way to us, or nothing comes any more
			if r := <-w; r.file != nil {
				r.file.Close()
			}
		}
		return Answer{}, nil, context.Cause(ctx)
	}
}

// Say says something that is not answered, to whoever is there.
func (c *Client) Say(q Question) {
	c.mu.Lock()
	l := c.now
	c.mu.Unlock()
	if l != nil && l.send(q) != nil {
		l.conn.Close()
	}
}

func (l *line) expect(id uint64, w chan reply) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil {
		return false
	}
	l.waiting[id] = w
	return true
}

// forget tells whether an answer was still awaited; now it is not.
func (l *line) forget(id uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, awaited := l.waiting[id]
	delete(l.waiting, id)
	return awaited
}

func (l *line) send(q Question) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	return packet.Send(l.conn, q)
}
