package link

import (
	"io"
	"sync"
	"sync/atomic"
)

// chunk is a part of what was read. Streams keep a piece of it until their
// reader has taken it, so that bytes are not copied in between.
type chunk struct {
	b    []byte
	refs atomic.Int32
}

const chunkLen = 8 * maxFrame

var chunks = sync.Pool{New: func() any { return &chunk{b: make([]byte, chunkLen)} }}

func newChunk() *chunk {
	c := chunks.Get().(*chunk)
	c.refs.Store(1)
	return c
}

func (c *chunk) release() {
	if c != nil && c.refs.Add(-1) == 0 {
		chunks.Put(c)
	}
}

// pipe is the serial pipe of one side: a reader of frames, used by one
// goroutine, and a writer of frames.
type pipe struct {
	rw io.ReadWriteCloser

	dec  decoder
	in   *chunk
	from int // in.b[from:to] is read and not decoded
	to   int

	closing  sync.Once
	closeErr error

	wmu sync.Mutex // guards the field below and the order of writes
	// current is the epoch that may be written.
	current epoch
}

func newPipe(rw io.ReadWriteCloser, d decoder) *pipe {
	return &pipe{rw: rw, dec: d, in: newChunk()}
}

// next returns the next frame. Its body is valid until the next call, and as
// long as somebody holds the chunk p.in.
func (p *pipe) next() (frame, error) {
	for {
		n, f, err := p.dec.next(p.in.b[p.from:p.to])
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

// fill reads more. What the decoder left is less than a frame.
func (p *pipe) fill() error {
	switch {
	case p.from == p.to && p.in.refs.Load() == 1:
		p.from, p.to = 0, 0
	case len(p.in.b)-p.to < maxFrame:
		c := newChunk()
		p.to = copy(c.b, p.in.b[p.from:p.to])
		p.from = 0
		p.in.release()
		p.in = c
	}
	n, err := p.rw.Read(p.in.b[p.to:])
	p.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// begin writes b, with which epoch e begins; nothing of another epoch follows.
func (p *pipe) begin(e epoch, b []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	p.current = e
	return p.write(b)
}

// send writes a frame of epoch e in one write.
func (p *pipe) send(e *epoch, b []byte) error {
	p.wmu.Lock()
	defer p.wmu.Unlock()
	if p.current != *e {
		return io.ErrUnexpectedEOF
	}
	return p.write(b)
}

// write writes all of b. A pipe that cannot be written to is of no use to
// its reader either.
func (p *pipe) write(b []byte) error {
	_, err := p.rw.Write(b)
	if err != nil {
		p.close()
	}
	return err
}

// close closes the pipe, once: another may follow on the same device.
func (p *pipe) close() error {
	p.closing.Do(func() { p.closeErr = p.rw.Close() })
	return p.closeErr
}
