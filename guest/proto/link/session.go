package link

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
)

// Session is the host's side of one epoch.
type Session struct {
	mux *mux
	// left is closed when rw is read no more.
	left chan struct{}
}

// Attach begins an epoch on the pipe and takes possession of rw. It waits for
// nothing: what is dialled waits until the guest runs and has accepted the
// epoch. The guest must have rung its doorbell once, under this or an earlier
// host. The error is always nil so far.
func Attach(rw io.ReadWriteCloser) (*Session, error) {
	var e epoch
	rand.Read(e[:])
	p := newPipe(rw, &hostDecoder{accept: small(kindAccept, 0, &e, 0), epoch: e})
	s := &Session{mux: newMux(p, e, nil), left: make(chan struct{})}
	p.wmu.Lock() // nothing is written before the reset
	p.current = e
	go func() { // ends when the pipe takes the bytes, or with it
		defer p.wmu.Unlock()
		p.write(append(make([]byte, padding), small(kindReset, 0, &e, 0)...))
	}()
	go s.run() // ends with the pipe
	return s, nil
}

// run reads until the pipe ends or the guest breaks the protocol.
func (s *Session) run() {
	defer close(s.left)
	defer s.end()
	for {
		f, err := s.mux.pipe.next()
		if err != nil {
			return
		}
		if err := s.mux.take(f); err != nil {
			return
		}
	}
}

// Dial opens a stream to a port of the guest. A guest that does not serve
// the port closes the stream.
func (s *Session) Dial(ctx context.Context, port uint32) (*Conn, error) {
	type result struct {
		c   *Conn
		err error
	}
	opened := make(chan result, 1)
	go func() { // ends when the pipe takes the bytes, or with the session
		c, err := s.mux.open(port)
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

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.mux.done }

// Close ends the session with all its streams, closes the pipe, whose Close
// must wake its reader, and returns when that has left. Streams break on the
// guest's side when the next host attaches.
func (s *Session) Close() error {
	err := s.end()
	<-s.left
	return err
}

func (s *Session) end() error {
	err := s.mux.pipe.close()
	s.mux.end()
	return err
}
