package kept

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Conn is a connection of which one half can be closed.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// Source is the guest's end of a kept stream. Its methods may be called from
// several goroutines.
type Source struct {
	from io.ReadCloser
	once sync.Once // begins pump

	mu sync.Mutex // guards the fields below
	// changed is broadcast at every change of them.
	changed sync.Cond
	// kept are the bytes from offset base on that were read and not
	// acknowledged.
	kept []byte
	base uint64
	// ended is set when from has ended, closed when nobody wants it any more.
	ended, closed bool
	// conn has the stream now, and was sent what is before sent.
	conn Conn
	sent uint64
}

// NewSource makes a source of what can be read from r, which it closes at its
// end. Nothing is read before the first Serve.
func NewSource(r io.ReadCloser) *Source {
	s := &Source{from: r}
	s.changed.L = &s.mu
	return s
}

// Errors of Serve.
var (
	// ErrGone says that the host has left, or has dialled the stream anew.
	ErrGone = errors.New("the host has left the stream")
	// ErrOffset says that the host asked for bytes that were never there.
	ErrOffset = errors.New("no such offset")
)

// Serve carries the stream over c, which it closes, from offset on. It returns
// nil when the host has acknowledged all of it; a host that asks for more then
// is refused.
func (s *Source) Serve(c Conn, from uint64) error {
	defer c.Close()
	at, err := s.take(c, from)
	if err != nil {
		return err
	}
	if s.Finished() {
		defer s.leave(c)
		return Refuse(c)
	}
	s.once.Do(func() { go s.pump() }) // ends with from
	defer s.leave(c)
	if err := writeOffset(c, at); err != nil {
		return fmt.Errorf("telling the offset: %w", err)
	}
	go s.listen(c) // ends with c
	buf := make([]byte, chunk)
	for {
		n, err := s.next(c, at, buf)
		if err != nil {
			return err
		}
		if n == 0 {
			return s.finish(c)
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return fmt.Errorf("sending: %w", err)
		}
		at += uint64(n)
	}
}

// take makes c the connection of the stream and returns where it goes on.
func (s *Source) take(c Conn, from uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end := s.base + uint64(len(s.kept)); from > end {
		return 0, fmt.Errorf("%w: %d, the stream has %d bytes", ErrOffset, from, end)
	}
	if s.conn != nil {
		s.conn.Close() // wakes its writer
	}
	s.drop(from)
	s.conn, s.sent = c, s.base
	s.changed.Broadcast()
	return s.base, nil
}

// leave gives the stream up, unless another has taken it.
func (s *Source) leave(c Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == c {
		s.conn = nil
	}
	s.changed.Broadcast()
}

// drop forgets what is before an offset; s.mu is held.
func (s *Source) drop(before uint64) {
	if before <= s.base {
		return
	}
	n := copy(s.kept, s.kept[before-s.base:])
	s.kept, s.base = s.kept[:n], before
}

// listen takes the host's acknowledgements. One of bytes that it was not sent,
// or the end of c, ends the connection.
func (s *Source) listen(c Conn) {
	defer s.leave(c)
	for {
		offset, err := readOffset(c)
		if err != nil || !s.acknowledge(c, offset) {
			return
		}
	}
}

func (s *Source) acknowledge(c Conn, offset uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != c || offset > s.sent {
		return false
	}
	s.drop(offset)
	s.changed.Broadcast()
	return true
}

// next waits for bytes at an offset and copies them; none are there at the end
// of the stream.
func (s *Source) next(c Conn, at uint64, b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.conn == c && at-s.base == uint64(len(s.kept)) && !s.ended {
		s.changed.Wait()
	}
	if s.conn != c {
		return 0, ErrGone
	}
	n = copy(b, s.kept[at-s.base:])
	s.sent = at + uint64(n)
	return n, nil
}

// finish tells the end and waits until it is acknowledged.
func (s *Source) finish(c Conn) error {
	if err := c.CloseWrite(); err != nil {
		return fmt.Errorf("ending the stream: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.conn == c && len(s.kept) > 0 {
		s.changed.Wait()
	}
	if len(s.kept) > 0 {
		return ErrGone
	}
	return nil
}

// pump reads what the process writes, as far as there is room.
func (s *Source) pump() {
	defer s.from.Close()
	buf := make([]byte, chunk)
	for {
		n, err := s.from.Read(buf[:s.room()])
		s.mu.Lock()
		s.kept = append(s.kept, buf[:n]...)
		s.ended = err != nil
		s.changed.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// room waits until something fits in and tells how much does.
func (s *Source) room() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.kept) >= Window && !s.closed {
		s.changed.Wait()
	}
	return min(max(Window-len(s.kept), 1), chunk)
}

// Close forgets the stream.
func (s *Source) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	s.from.Close() // wakes its reader
	if s.conn != nil {
		s.conn.Close()
	}
}

// Finished tells whether the host has acknowledged all there is.
func (s *Source) Finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.finished()
}

func (s *Source) finished() bool { return s.ended && len(s.kept) == 0 }

// Settled waits until the host has acknowledged all there is, or has gone.
func (s *Source) Settled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.conn != nil && !s.finished() {
		s.changed.Wait()
	}
}
