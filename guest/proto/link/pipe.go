package link

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// readBuffer holds several frames, so that one read brings many.
const readBuffer = 4 * maxFrame

// pipe is the serial pipe of one side: a reader of frames, used by one
// goroutine at a time, and a writer of frames.
type pipe struct {
	rw io.ReadWriteCloser

	dec  decoder
	buf  []byte
	from int // buf[from:to] is read and not decoded
	to   int

	wmu sync.Mutex // guards the fields below and the order of writes
	// current is the epoch that may be written.
	current epoch
	// frame is the frame being made; the head is made when it is sent.
	frame []byte
}

func newPipe(rw io.ReadWriteCloser, d decoder) *pipe {
	return &pipe{
		rw: rw, dec: d, buf: make([]byte, readBuffer),
		frame: make([]byte, headLen, maxFrame),
	}
}

// next returns the next frame. Its body is valid until the next call.
func (p *pipe) next() (frame, error) {
	for {
		n, f, err := p.dec.next(p.buf[p.from:p.to])
		p.from += n
		switch {
		case err != nil:
			return frame{}, err
		case f.kind != kindNone:
			return f, nil
		case n > 0:
			continue
		}
		if err := p.fill(); err != nil {
			return frame{}, err
		}
	}
}

// fill reads more. What the decoder left fits into the buffer, being less
// than a frame.
func (p *pipe) fill() error {
	if p.from == p.to {
		p.from, p.to = 0, 0
	} else if len(p.buf)-p.to < maxFrame {
		p.to = copy(p.buf, p.buf[p.from:p.to])
		p.from = 0
	}
	n, err := p.rw.Read(p.buf[p.to:])
	p.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// open writes b, which begins epoch e; nothing of an older epoch follows it.
func (p *pipe) open(e epoch, b []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.current = e
	p.frame = p.frame[:headLen]
	return p.write(b)
}

// write writes all of b. A pipe that cannot be written to is of no use to
// its reader either.
func (p *pipe) write(b []byte) error {
	_, err := p.rw.Write(b)
	if err != nil {
		p.rw.Close()
	}
	return err
}

var errSuperseded = errors.New("another host has attached to the link")

// conn is the byte stream of one epoch: what yamux runs on.
type conn struct {
	p     *pipe
	epoch epoch
	body  []byte // delivered and not read yet
	fresh bool   // body is a whole frame's
	// next is the epoch that ended this one, set when Read has returned
	// errSuperseded.
	next *epoch
	// err is what else ended Read.
	err error
	// head is the header of the data frame of yamux's that is being written,
	// left how much of its body is still to come; guarded by p.wmu.
	head [muxHeader]byte
	left uint32
}

// Read reads bytes of the epoch. It ends with the pipe's error, or with
// errSuperseded when another epoch has begun.
func (c *conn) Read(b []byte) (int, error) {
	for len(c.body) == 0 {
		if c.next != nil {
			return 0, errSuperseded
		}
		f, err := c.p.next()
		if err != nil {
			c.err = err
			return 0, err
		}
		if f.kind == kindReset {
			e := f.epoch
			c.next = &e
			continue
		}
		c.body, c.fresh = f.body, true
	}
	if c.fresh {
		// A frame begins with a header of yamux's. Read alone, it leaves
		// what follows where it is, aligned, instead of in yamux's buffer.
		b, c.fresh = b[:min(len(b), muxHeader)], false
	}
	n := copy(b, c.body)
	c.body = c.body[n:]
	return n, nil
}

// The parts of a yamux header that Write looks at.
const (
	muxHeader     = 12
	muxTypeOffset = 1
	muxTypeData   = 0
	muxLenOffset  = 8
)

// Write writes what yamux does: a header, or the body that belongs to the
// header before it. A header waits for its body, so that both leave in one
// write, and one that opens a stream for the port, which is always next.
func (c *conn) Write(b []byte) (int, error) {
	c.p.wmu.Lock()
	defer c.p.wmu.Unlock()
	switch {
	case c.epoch != c.p.current:
		return 0, errSuperseded
	case c.left > 0:
		return len(b), c.data(b)
	case len(b) != muxHeader:
		return 0, errFrame // yamux writes a header alone
	case b[muxTypeOffset] == muxTypeData && binary.BigEndian.Uint32(b[muxLenOffset:]) > 0:
		copy(c.head[:], b)
		c.left = binary.BigEndian.Uint32(b[muxLenOffset:])
		return len(b), nil
	}
	if err := c.room(muxHeader); err != nil {
		return 0, err
	}
	c.p.frame = append(c.p.frame, b...)
	if binary.BigEndian.Uint16(b[muxFlagsAt:])&muxSYN != 0 {
		return len(b), nil
	}
	return len(b), c.flush()
}

// data sends the next part of a body, in as many frames as it takes. Each
// begins with a header of its own, as if yamux had written so many smaller
// ones: what follows it is aligned in all of them.
func (c *conn) data(b []byte) error {
	if uint64(len(b)) > uint64(c.left) {
		return errFrame
	}
	for len(b) > 0 {
		if err := c.room(muxHeader + 1); err != nil {
			return err
		}
		n := min(len(b), headLen+MaxWrite-len(c.p.frame))
		binary.BigEndian.PutUint32(c.head[muxLenOffset:], uint32(n))
		c.p.frame = append(append(c.p.frame, c.head[:]...), b[:n]...)
		binary.BigEndian.PutUint16(c.head[muxFlagsAt:], 0) // they are said once
		c.left -= uint32(n)
		b = b[n:]
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// room sends the frame being made if it has no room for n bytes more.
func (c *conn) room(n int) error {
	if len(c.p.frame)+n <= headLen+maxBody {
		return nil
	}
	return c.flush()
}

// flush sends the frame being made.
func (c *conn) flush() error {
	p := c.p
	body := len(p.frame) - headLen
	if body == 0 {
		return nil
	}
	putHead(p.frame, kindData, &c.epoch, body)
	err := p.write(append(p.frame, c.epoch[:tailLen]...))
	p.frame = p.frame[:headLen]
	return err
}

// Close does nothing: yamux closes its connection when the epoch is over,
// and then its reader has left already or the pipe itself is closed.
func (c *conn) Close() error { return nil }
