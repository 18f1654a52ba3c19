package link

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/yamux"
)

// Conn is one stream. A stream whose session broke gives io.ErrUnexpectedEOF,
// never io.EOF.
type Conn struct {
	stream *yamux.Stream
	peer   *peer

	closed  atomic.Bool // Close was called
	stopped atomic.Bool // the other side reads no more
	ended   atomic.Bool // the other side has written all
	shut    sync.Once   // our end of writing
	once    sync.Once   // done
	done    chan struct{}
	reading sync.Mutex // held by Read
}

var _ net.Conn = (*Conn)(nil)

// Done is closed when the other side reads no more or the session is over:
// whatever is written from then on is lost.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Broken tells whether the session is over, which no side of the stream chose.
func (c *Conn) Broken() bool { return c.peer.mux.IsClosed() }

// Read reads what the other side wrote. It returns io.EOF after the other
// side's CloseWrite, and io.ErrUnexpectedEOF when the session broke before.
func (c *Conn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	n, err := c.stream.Read(b)
	switch {
	case c.closed.Load():
		return 0, net.ErrClosed
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		return n, c.end()
	}
	return n, c.explain(err)
}

// end tells the end of a stream from the end of its session.
func (c *Conn) end() error {
	if !c.peer.mux.IsClosed() {
		c.ended.Store(true)
		return io.EOF
	}
	<-c.peer.heard
	if c.ended.Load() {
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

// MaxWrite is how much one frame carries. Writing multiples of it makes the
// fewest frames.
const MaxWrite = maxBody - muxHeader

// burst is how much goes to yamux at once: each time two goroutines take turns,
// which costs an emulated processor as much as copying a frame does. What other
// streams have to say waits for it, and a session holds a copy of it.
const burst = 4 * MaxWrite

// Write writes all of b, waiting for the reader where it is slow. It returns
// an error that wraps syscall.EPIPE when the other side reads no more.
func (c *Conn) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if c.stopped.Load() {
			return n, syscall.EPIPE
		}
		m, err := c.stream.Write(b[:min(len(b), burst)])
		n += m
		if err != nil {
			return n, c.explain(err)
		}
		b = b[m:]
	}
	return n, nil
}

func (c *Conn) explain(err error) error {
	switch {
	case c.stopped.Load():
		return syscall.EPIPE
	case errors.Is(err, yamux.ErrTimeout):
		return os.ErrDeadlineExceeded
	case errors.Is(err, yamux.ErrStreamClosed) && !c.peer.mux.IsClosed():
		return net.ErrClosed
	case c.peer.mux.IsClosed():
		return io.ErrUnexpectedEOF
	}
	return err
}

// CloseWrite ends our direction: the other side reads io.EOF after what was
// written. Reading goes on.
func (c *Conn) CloseWrite() error {
	c.shut.Do(func() {
		c.stream.Close()
		c.peer.say(saysEnd, c.stream.StreamID())
	})
	return nil
}

// Close ends both directions. It does not wait: what was written before is
// still delivered, and the other side is told not to write any more.
func (c *Conn) Close() error {
	if !c.closed.CompareAndSwap(false, true) {
		return nil
	}
	c.stream.SetReadDeadline(time.Unix(1, 0)) // wakes a reader
	go c.leave()                              // ends with the other side's answer or the session
	return nil
}

// leave closes our side and drops what the other side sends until it has
// heard of it.
func (c *Conn) leave() {
	c.CloseWrite()
	if !c.ended.Load() {
		c.peer.say(saysStop, c.stream.StreamID())
	}
	c.reading.Lock()
	defer c.reading.Unlock()
	c.stream.SetReadDeadline(time.Time{})
	io.Copy(io.Discard, c.stream)
	c.peer.forget(c.stream.StreamID())
	c.finish()
}

// told takes what the other side said of the stream.
func (c *Conn) told(what byte) {
	switch what {
	case saysEnd:
		c.ended.Store(true)
	case saysStop:
		if !c.stopped.CompareAndSwap(false, true) {
			return // each goroutine below may wait for a reader that never comes
		}
		c.finish()
		go c.shut.Do(func() { c.stream.Close() }) // wakes a writer; ends with the write
	}
}

func (c *Conn) finish() { c.once.Do(func() { close(c.done) }) }

// SetDeadline sets the deadlines of Read and Write.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the time at which Read gives up with
// os.ErrDeadlineExceeded.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	return c.stream.SetReadDeadline(t)
}

// SetWriteDeadline sets the time at which a Write that waits for the reader
// gives up with os.ErrDeadlineExceeded.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.stream.SetWriteDeadline(t) }

// LocalAddr and RemoteAddr name the link; streams have no addresses.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr is as LocalAddr.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "link" }
func (addr) String() string  { return "link" }
