package link

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// Server is the guest's side of the pipe, over all epochs.
type Server struct {
	pipe *pipe
	// done is closed after err is set.
	done chan struct{}
	err  error
	some signal // incoming is not empty

	mu       sync.Mutex // guards the fields below
	closed   bool
	incoming []incoming
}

type incoming struct {
	conn *Conn
	port uint32
}

// Serve serves the hosts that attach to the pipe, one after the other, and
// takes possession of rw. A read of rw that returns an error ends it for good,
// so rw must wait while no host is there.
func Serve(rw io.ReadWriteCloser) *Server {
	s := &Server{pipe: newPipe(rw, &guestDecoder{}), done: make(chan struct{}), some: newSignal()}
	go s.run() // ends with the pipe
	return s
}

// Accept returns the next stream that a host has opened, and its port. It
// fails when the pipe is closed or broken; a host that breaks the protocol
// only loses its session.
func (s *Server) Accept() (*Conn, uint32, error) {
	for {
		select {
		case <-s.some:
		case <-s.done:
			return nil, 0, s.err
		}
		if in, ok := s.pop(); ok {
			return in.conn, in.port, nil
		}
	}
}

func (s *Server) pop() (in incoming, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.incoming) == 0 {
		return incoming{}, false
	}
	in = s.incoming[0]
	s.incoming = s.incoming[1:]
	if len(s.incoming) > 0 {
		s.some.raise()
	}
	return in, true
}

// push takes a stream that a host opens. There are no more than a session may
// have: those of older ones are dropped at a reset.
func (s *Server) push(c *Conn, port uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incoming = append(s.incoming, incoming{c, port})
	s.some.raise()
}

// Close closes the pipe and returns when nothing uses it any more.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	err := s.pipe.close()
	<-s.done
	return err
}

func (s *Server) run() {
	defer close(s.done)
	err := s.serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = fmt.Errorf("serving the link: %w", err)
	if s.closed {
		s.err = net.ErrClosed
	}
}

// serve reads until the pipe ends. m is the session of the current epoch.
func (s *Server) serve() error {
	var m *mux
	end := func() {
		if m != nil {
			m.end()
		}
	}
	defer func() { end() }()
	for {
		f, err := s.pipe.next()
		if err != nil {
			return err
		}
		switch {
		case f.kind == kindReset:
			end()
			s.mu.Lock()
			s.incoming = nil
			s.mu.Unlock()
			m = newMux(s.pipe, f.epoch, s.push)
			if err := s.pipe.begin(f.epoch, small(kindAccept, 0, &f.epoch, 0)); err != nil {
				return err
			}
		case m != nil && m.take(f) != nil:
			end() // until a host attaches anew
			m = nil
		}
	}
}
