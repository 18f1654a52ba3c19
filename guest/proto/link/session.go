package link

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/yamux"
)

// Session is the host's side of one epoch.
type Session struct {
	rw   io.ReadWriteCloser
	peer *peer
	// why is what the guest did to end the session, if it did.
	why *atomic.Pointer[error]
	// ready is closed when streams can be opened.
	ready chan struct{}
	// opening makes streams reach the guest in the order of their ids.
	opening sync.Mutex
}

// Attach begins an epoch on the pipe and takes possession of rw. It waits for
// nothing: what is dialled waits until the guest runs and has accepted the
// epoch. The guest must have rung its doorbell once, under this or an earlier
// host.
func Attach(rw io.ReadWriteCloser) (*Session, error) {
	var e epoch
	rand.Read(e[:])
	p := newPipe(rw, &hostDecoder{epoch: e})
	p.current = e
	c := &opening{conn: conn{p: p, epoch: e}}
	mux, err := yamux.Client(c, config())
	if err != nil {
		return nil, fmt.Errorf("attaching to the link: %w", err)
	}
	s := &Session{rw: rw, peer: newPeer(mux), why: &c.why, ready: make(chan struct{})}
	go s.run() // ends with the session
	return s, nil
}

// opening is the host's conn: its first write begins the epoch.
type opening struct {
	conn
	opened bool
	guard  guard
	why    atomic.Pointer[error]
}

// Read remembers why the guest is not to be believed any more.
func (o *opening) Read(b []byte) (int, error) {
	n, err := o.conn.Read(b)
	if refused := o.guard.check(b[:n]); refused != nil {
		n, err = 0, refused
	}
	if _, other := errors.AsType[versionError](err); other || errors.Is(err, errFrame) {
		o.why.Store(&err)
	}
	return n, err
}

func (o *opening) Write(b []byte) (int, error) {
	if !o.opened {
		o.opened = true
		begin := append(make([]byte, padding), control(kindReset, &o.epoch)...)
		if err := o.p.open(o.epoch, begin); err != nil {
			return 0, err
		}
	}
	return o.conn.Write(b)
}

// Close closes the pipe, which wakes its reader.
func (o *opening) Close() error { return o.p.rw.Close() }

// run opens the link's own stream and listens to it.
func (s *Session) run() {
	defer s.peer.breakAll()
	own, err := s.peer.mux.OpenStream()
	if err == nil {
		_, err = own.Write(binary.BigEndian.AppendUint32(nil, portControl))
	}
	if err != nil {
		s.Close()
		close(s.peer.heard)
		return
	}
	s.peer.own = own
	close(s.ready)
	s.peer.listen(own)
}

// Dial opens a stream to a port of the guest. A guest that does not serve
// the port closes the stream.
func (s *Session) Dial(ctx context.Context, port uint32) (*Conn, error) {
	select {
	case <-s.ready:
	case <-s.Done():
		return nil, fmt.Errorf("dialling port %d: %w", port, s.Err())
	case <-ctx.Done():
		return nil, fmt.Errorf("dialling port %d: %w", port, context.Cause(ctx))
	}
	type result struct {
		c   *Conn
		err error
	}
	opened := make(chan result, 1)
	go func() { // ends when the pipe takes the bytes, or with the session
		c, err := s.open(port)
		opened <- result{c, err}
	}()
	select {
	case r := <-opened:
		return r.c, r.err
	case <-ctx.Done():
		go func() { // as above
			if r := <-opened; r.err == nil {
				r.c.Close()
			}
		}()
		return nil, fmt.Errorf("dialling port %d: %w", port, context.Cause(ctx))
	}
}

func (s *Session) open(port uint32) (*Conn, error) {
	s.opening.Lock()
	stream, err := s.peer.mux.OpenStream()
	s.opening.Unlock()
	if err == nil {
		c := s.peer.add(stream)
		if _, err = c.Write(binary.BigEndian.AppendUint32(nil, port)); err == nil {
			return c, nil
		}
		c.Close()
	}
	if s.peer.mux.IsClosed() {
		err = s.Err()
	}
	return nil, fmt.Errorf("dialling port %d: %w", port, err)
}

// Err tells why a session is over: a word on what the guest did wrong, or
// ErrClosed.
func (s *Session) Err() error {
	if why := s.why.Load(); why != nil {
		return *why
	}
	return ErrClosed
}

// ErrClosed says that the link was closed, by this side or with the pipe.
var ErrClosed = errors.New("the link is closed")

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.peer.mux.CloseChan() }

// Close ends the session with all its streams and closes the pipe. Streams
// break on the guest's side when the next host attaches.
func (s *Session) Close() error {
	err := s.rw.Close()
	s.peer.mux.Close()
	return err
}
