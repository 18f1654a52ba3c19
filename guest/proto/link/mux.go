package link

import (
	"fmt"
	"sync"
)

// window is how many bytes of one stream may be under way to a reader that is
// slow. With much less, a fast writer would wait until the reader's machine is
// scheduled.
const window = 4 << 20

// maxStreams bounds what the other side can open.
const maxStreams = 4096

// mux is the streams of one epoch.
type mux struct {
	pipe  *pipe
	epoch epoch
	// done is closed when the epoch is over.
	done chan struct{}
	// opened gets the streams that the other side opens; nil on the host.
	opened func(c *Conn, port uint32)

	mu      sync.Mutex // guards the fields below
	over    bool
	streams map[uint32]*Conn
	last    uint32 // the newest stream's id
}

func newMux(p *pipe, e epoch, opened func(*Conn, uint32)) *mux {
	return &mux{pipe: p, epoch: e, done: make(chan struct{}), opened: opened, streams: map[uint32]*Conn{}}
}

// open makes a new stream known to both sides.
func (m *mux) open(port uint32) (*Conn, error) {
	m.mu.Lock()
	m.last++
	c := newConn(m, m.last)
	if m.over || len(m.streams) >= maxStreams {
		m.mu.Unlock()
		return nil, fmt.Errorf("dialling port %d: the link is closed or has %d streams", port, maxStreams)
	}
	m.streams[c.id] = c
	m.mu.Unlock()
	if err := m.tell(kindOpen, c.id, port); err != nil {
		return nil, fmt.Errorf("dialling port %d: %w", port, err)
	}
	return c, nil
}

// tell sends a small frame.
func (m *mux) tell(k kind, stream, value uint32) error {
	return m.pipe.send(&m.epoch, small(k, stream, &m.epoch, value))
}

// end ends the epoch: every stream is broken.
func (m *mux) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.over = true
	close(m.done)
	for _, c := range m.streams {
		c.breakOff()
	}
	clear(m.streams)
}

// take takes a frame of the epoch. It writes nothing and waits for nothing,
// so that a reader is never held up by a writer.
func (m *mux) take(f frame) error {
	if f.kind == kindOpen {
		return m.incoming(f.stream, f.value())
	}
	m.mu.Lock()
	c := m.streams[f.stream]
	m.mu.Unlock()
	if c == nil {
		return nil // it is closed on both sides
	}
	switch f.kind {
	case kindData:
		return c.deliver(f.body, m.pipe.in)
	case kindCredit:
		return c.credited(f.value())
	case kindEnd:
		c.ended()
	case kindStop:
		c.stopped()
	}
	return nil
}

// incoming is a stream that the other side opens.
func (m *mux) incoming(id, port uint32) error {
	m.mu.Lock()
	if m.opened == nil || id != m.last+1 || len(m.streams) >= maxStreams {
		m.mu.Unlock()
		return errFrame
	}
	m.last = id
	c := newConn(m, id)
	m.streams[id] = c
	m.mu.Unlock()
	m.opened(c, port)
	return nil
}

// forget drops a stream that both sides have ended.
func (m *mux) forget(id uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.streams, id)
}
