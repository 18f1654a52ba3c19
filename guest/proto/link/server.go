package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/hashicorp/yamux"
)

// Server is the guest's side of the pipe, over all epochs.
type Server struct {
	pipe     *pipe
	accepted chan incoming
	// done is closed after err is set.
	done chan struct{}
	err  error
	once sync.Once
	quit chan struct{}
}

type incoming struct {
	conn *Conn
	port uint32
}

// Serve serves the hosts that attach to the pipe, one after the other, and
// takes possession of rw. A read of rw that returns an error ends it for good,
// so rw must wait while no host is there.
func Serve(rw io.ReadWriteCloser) *Server {
	s := &Server{
		pipe:     newPipe(rw, &guestDecoder{}),
		accepted: make(chan incoming), done: make(chan struct{}), quit: make(chan struct{}),
	}
	go s.run() // ends with the pipe
	return s
}

// Accept returns the next stream that a host has opened, and its port. It
// fails when the pipe is closed or broken; a host that breaks the protocol
// only loses its session.
func (s *Server) Accept() (*Conn, uint32, error) {
	select {
	case in := <-s.accepted:
		return in.conn, in.port, nil
	case <-s.done:
		return nil, 0, s.err
	}
}

// Close closes the pipe and returns when nothing uses it any more.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		close(s.quit)
		err = s.pipe.rw.Close()
	})
	<-s.done
	return err
}

func (s *Server) run() {
	defer close(s.done)
	e, err := s.await()
	for err == nil {
		e, err = s.epoch(e)
	}
	s.err = fmt.Errorf("serving the link: %w", err)
	select {
	case <-s.quit:
		s.err = net.ErrClosed
	default:
	}
}

// await drops everything up to the next reset.
func (s *Server) await() (epoch, error) {
	for {
		f, err := s.pipe.next()
		if err != nil {
			return epoch{}, err
		}
		if f.kind == kindReset {
			return f.epoch, nil
		}
	}
}

// epoch serves one epoch and returns the next.
func (s *Server) epoch(e epoch) (epoch, error) {
	if err := s.pipe.open(e, control(kindAccept, &e)); err != nil {
		return epoch{}, err
	}
	c := &conn{p: s.pipe, epoch: e}
	mux, err := yamux.Server(c, config())
	if err != nil {
		return epoch{}, err
	}
	s.session(mux)
	mux.Close() // returns when nothing reads or writes c
	switch {
	case c.next != nil:
		return *c.next, nil
	case c.err != nil:
		return epoch{}, c.err
	}
	return s.await()
}

// session accepts the streams of one session until it is over.
func (s *Server) session(mux *yamux.Session) {
	p := newPeer(mux)
	defer p.breakAll()
	own, err := mux.AcceptStream()
	if err != nil {
		close(p.heard)
		return
	}
	if port, err := readPort(own); err != nil || port != portControl {
		mux.Close()
		close(p.heard)
		return
	}
	p.own = own
	go p.listen(own) // ends with the session
	var ports sync.WaitGroup
	defer ports.Wait()
	for {
		stream, err := mux.AcceptStream()
		if err != nil {
			return
		}
		c := p.add(stream)
		ports.Go(func() { s.offer(mux, c) })
	}
}

// offer reads the port of a stream and offers it to Accept.
func (s *Server) offer(mux *yamux.Session, c *Conn) {
	port, err := readPort(c)
	if err != nil {
		c.Close()
		return
	}
	select {
	case s.accepted <- incoming{c, port}:
	case <-mux.CloseChan():
		c.Close()
	}
}

func readPort(r io.Reader) (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, errors.New("no port")
	}
	return binary.BigEndian.Uint32(b[:]), nil
}
