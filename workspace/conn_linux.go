package workspace

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"

	"github.com/xfeldman/aegisvm/workspace/nfs3"
)

// maxCalls is how many calls of a connection are carried out at once. The
// rest waits in the stream.
const maxCalls = 16

// conn is a connection of the guest's kernel.
type conn struct {
	net.Conn
	over  chan struct{} // closed when nothing of it is being carried out
	stale bool          // a newer one has come; guarded by Server.mu
	write sync.Mutex    // held while an answer is written
}

// Serve serves one connection until it or ctx ends, and closes it. A guest
// has one connection at a time: what a new one asks for is looked at when
// nothing of the last one is being done any more, so that no late write can
// undo a newer one.
func (s *Server) Serve(ctx context.Context, c net.Conn) error {
	return s.serve(ctx, c, func() {})
}

// serve calls used once: when the connection is used, or over.
func (s *Server) serve(ctx context.Context, c net.Conn, used func()) error {
	used = sync.OnceFunc(used)
	defer used()
	one := &conn{Conn: c, over: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	var calls sync.WaitGroup
	defer func() {
		stop()
		c.Close()
		calls.Wait()
		close(one.over)
	}()
	slots := make(chan struct{}, maxCalls)
	in := bufio.NewReaderSize(c, 64<<10)
	for {
		record, err := readRecord(in)
		if err != nil {
			return ended(ctx, err)
		}
		used()
		r, err := parseRequest(record)
		if err != nil {
			return err
		}
		if r.body.Prog == nfs3.NFS_PROGRAM_PROGRAM_NUMBER && !s.takeOver(ctx, one) {
			return nil
		}
		slots <- struct{}{} // freed by calls, which end
		calls.Go(func() {
			defer func() { <-slots }()
			s.call(ctx, one, r)
		})
	}
}

// ended is why a connection ended; that the guest has closed it is no error.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// takeOver makes c the guest's connection; false if a newer one is.
func (s *Server) takeOver(ctx context.Context, c *conn) bool {
	s.mu.Lock()
	if c.stale {
		s.mu.Unlock()
		return false
	}
	last := s.current
	if last != nil && last != c {
		last.stale = true
	}
	s.current = c
	s.mu.Unlock()
	if last == nil || last == c {
		return true
	}
	last.Close()
	select {
	case <-last.over:
		return true
	case <-ctx.Done():
		return false
	}
}

// call carries out one call and answers it. An answer that cannot be written
// ends the connection; the guest asks again on the next one.
func (s *Server) call(ctx context.Context, c *conn, r request) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a call panicked", "procedure", r.body.Proc, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			c.Close()
		}
	}()
	carryOut := func() []byte { return s.answer(ctx, r) }
	var reply []byte
	if r.changes() {
		reply = s.replies.once(r.id, carryOut)
	} else {
		reply = carryOut()
	}
	c.write.Lock()
	defer c.write.Unlock()
	if _, err := c.Write(reply); err != nil {
		c.Close()
	}
}
