package link

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is one stream. A stream whose session broke gives io.ErrUnexpectedEOF,
// never io.EOF. Its methods may be called from several goroutines.
type Conn struct {
	mux *mux
	id  uint32
	// done is closed when the other side takes no more or the session is over.
	done chan struct{}

	reading, writing deadline
	readable         signal // something changed for a reader
	writable         signal // something changed for a writer
	sending          sync.Mutex

	mu       sync.Mutex // guards the fields below
	pieces   []piece    // what has arrived and was not read
	queued   int        // its length
	consumed int        // read and not credited yet
	credit   int        // how much may be sent
	broken   bool       // the session is over
	closed   bool       // Close was called
	shut     bool       // we send no more
	gotEnd   bool       // the other side sends no more
	gotStop  bool       // the other side takes no more
}

// piece is a part of a stream, and the chunk that it is in, if it is in one.
type piece struct {
	b  []byte
	in *chunk
}

var _ net.Conn = (*Conn)(nil)

func newConn(m *mux, id uint32) *Conn {
	return &Conn{
		mux: m, id: id, done: make(chan struct{}), credit: window,
		readable: newSignal(), writable: newSignal(),
		reading: newDeadline(), writing: newDeadline(),
	}
}

// Done is closed when the other side takes no more or the session is over:
// whatever is written from then on is lost.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Broken tells whether the session is over, which no side of the stream chose.
func (c *Conn) Broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// Read reads what the other side wrote. It returns io.EOF after the other
// side's CloseWrite, and io.ErrUnexpectedEOF when the session broke before.
func (c *Conn) Read(b []byte) (int, error) {
	p, err := c.next(len(b))
	if err != nil {
		return 0, err
	}
	n := copy(b, p.b)
	p.in.release()
	c.consume(n)
	return n, nil
}

// WriteTo writes what the other side wrote to w without copying it in between,
// until the stream ends.
func (c *Conn) WriteTo(w io.Writer) (n int64, err error) {
	for {
		p, err := c.next(maxBody)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(p.b)
		n += int64(m)
		p.in.release()
		c.consume(len(p.b))
		if err != nil {
			return n, err
		}
	}
}

// next takes up to limit bytes that have arrived, waiting for some. Its caller
// releases the piece's chunk.
func (c *Conn) next(limit int) (piece, error) {
	for {
		if p, err := c.poll(limit); p.b != nil || err != nil {
			return p, err
		}
		select {
		case <-c.readable:
		case <-c.reading.wait():
			return piece{}, os.ErrDeadlineExceeded
		}
	}
}

// poll is next without waiting.
func (c *Conn) poll(limit int) (piece, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		c.readable.raise() // for the next reader
		return piece{}, net.ErrClosed
	case c.reading.passed():
		return piece{}, os.ErrDeadlineExceeded
	case len(c.pieces) > 0:
		return c.pop(limit), nil
	case c.gotEnd:
		c.readable.raise()
		return piece{}, io.EOF
	case c.broken:
		c.readable.raise()
		return piece{}, io.ErrUnexpectedEOF
	case limit == 0:
		return piece{b: []byte{}}, nil
	}
	return piece{}, nil
}

// pop takes up to limit bytes off the first piece.
func (c *Conn) pop(limit int) piece {
	first := &c.pieces[0]
	p := *first
	if len(p.b) > limit {
		p.b = p.b[:limit]
		first.b = first.b[limit:]
		if p.in != nil {
			p.in.refs.Add(1)
		}
	} else {
		*first = piece{}
		c.pieces = c.pieces[1:]
	}
	c.queued -= len(p.b)
	if len(c.pieces) > 0 {
		c.readable.raise()
	}
	return p
}

// consume lets the other side send as much as was read, in large parts.
func (c *Conn) consume(n int) {
	c.mu.Lock()
	c.consumed += n
	n = c.consumed
	if n < window/2 || c.gotEnd || c.broken || c.closed {
		n = 0
	}
	c.consumed -= n
	c.mu.Unlock()
	if n > 0 {
		c.mux.tell(kindCredit, c.id, uint32(n))
	}
}

// Write writes all of b, waiting for the reader where it is slow. It returns
// an error that wraps syscall.EPIPE when the other side takes no more.
func (c *Conn) Write(b []byte) (n int, err error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	buf := frames.Get().(*[]byte)
	defer frames.Put(buf)
	for len(b) > 0 {
		m, err := c.reserve(min(len(b), maxBody))
		if err != nil {
			return n, err
		}
		copy((*buf)[headLen:], b[:m])
		if err := c.transmit(*buf, m); err != nil {
			return n, err
		}
		n += m
		b = b[m:]
	}
	return n, nil
}

// ReadFrom writes what r gives until it ends, reading it to where it is sent
// from.
func (c *Conn) ReadFrom(r io.Reader) (n int64, err error) {
	buf := NewBuffer()
	for {
		m, rerr := r.Read(buf.Room())
		if m > 0 {
			if _, err := c.WriteBuffer(buf, m); err != nil {
				return n, err
			}
			n += int64(m)
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

var frames = sync.Pool{New: func() any { b := make([]byte, maxFrame); return &b }}

// Buffer is room for bytes that are sent from where they are.
type Buffer struct{ b []byte }

// NewBuffer makes a buffer of the size that is sent at once.
func NewBuffer() Buffer { return Buffer{make([]byte, maxFrame)} }

// Room is where the bytes are put.
func (b Buffer) Room() []byte { return b.b[headLen : headLen+maxBody] }

// WriteBuffer is as Write of the first n bytes of b.Room(), but for copying
// them. They may be moved; what was not sent stands at the head of the room.
func (c *Conn) WriteBuffer(b Buffer, n int) (sent int, err error) {
	c.sending.Lock()
	defer c.sending.Unlock()
	for sent < n {
		m, err := c.reserve(n - sent)
		if err != nil {
			return sent, err
		}
		after := [tailLen]byte(b.b[headLen+m:]) // where the tail goes
		err = c.transmit(b.b, m)
		copy(b.b[headLen+m:], after[:])
		if err != nil {
			return sent, err
		}
		sent += m
		copy(b.Room(), b.b[headLen+m:headLen+m+n-sent])
	}
	return sent, nil
}

// transmit sends the n bytes that stand after the room for a head in b.
func (c *Conn) transmit(b []byte, n int) error {
	putHead(b, kindData, c.id, &c.mux.epoch, n)
	copy(b[headLen+n:], c.mux.epoch[:tailLen])
	return c.mux.pipe.send(&c.mux.epoch, b[:headLen+n+tailLen])
}

// reserve takes up to n bytes of credit, waiting for some.
func (c *Conn) reserve(n int) (int, error) {
	for {
		if m, err := c.pollCredit(n); m > 0 || err != nil {
			return m, err
		}
		select {
		case <-c.writable:
		case <-c.writing.wait():
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (c *Conn) pollCredit(n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed, c.shut && !c.gotStop:
		return 0, net.ErrClosed
	case c.gotStop:
		return 0, syscall.EPIPE
	case c.broken:
		return 0, io.ErrUnexpectedEOF
	case c.writing.passed():
		return 0, os.ErrDeadlineExceeded
	}
	n = min(n, c.credit)
	c.credit -= n
	return n, nil
}

// SetDeadline sets the deadlines of Read and Write.
func (c *Conn) SetDeadline(t time.Time) error {
	c.reading.set(t)
	c.writing.set(t)
	return nil
}

// SetReadDeadline sets the time at which Read gives up with
// os.ErrDeadlineExceeded.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.reading.set(t)
	return nil
}

// SetWriteDeadline sets the time at which a Write that waits for the reader
// gives up with os.ErrDeadlineExceeded.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writing.set(t)
	return nil
}

// LocalAddr and RemoteAddr name the link; streams have no addresses.
func (c *Conn) LocalAddr() net.Addr { return addr{} }

// RemoteAddr is as LocalAddr.
func (c *Conn) RemoteAddr() net.Addr { return addr{} }

type addr struct{}

func (addr) Network() string { return "link" }
func (addr) String() string  { return "link" }
