package link

import (
	"encoding/binary"
	"io"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// window is how much one stream may hold for a reader that is slow. With
// less, a fast writer waits for the reader of another machine to be scheduled.
const window = 4 << 20

// backlog is how many streams may be opened and not accepted yet.
const backlog = 256

// config turns off every timeout: a paused machine answers when it goes on.
func config() *yamux.Config {
	c := yamux.DefaultConfig()
	c.AcceptBacklog = backlog
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = math.MaxInt64 / 2 * time.Nanosecond
	c.StreamOpenTimeout = 0
	c.StreamCloseTimeout = 0
	c.MaxStreamWindowSize = window
	c.LogOutput = io.Discard
	return c
}

// portControl is the port of the link's own stream.
const portControl = 0

// What the link's own stream says of another: one byte of these, then the
// stream's id.
const (
	saysEnd  = 1 // all that I wrote is written
	saysStop = 2 // I read no more
)

const sayLen = 5

// peer is a session as both sides know it: its streams and the stream that
// speaks of them.
type peer struct {
	mux *yamux.Session
	// heard is closed when nothing more will be said.
	heard chan struct{}

	smu  sync.Mutex // guards the writes to own
	own  *yamux.Stream
	mu   sync.Mutex // guards the fields below
	open map[uint32]*Conn
	// last is the newest stream that was added; what was said of later ones
	// is kept in early.
	last  uint32
	early map[uint32][]byte
}

func newPeer(m *yamux.Session) *peer {
	return &peer{
		mux: m, heard: make(chan struct{}),
		open: map[uint32]*Conn{}, early: map[uint32][]byte{},
	}
}

// add makes a stream known. Streams come in the order of their ids.
func (p *peer) add(s *yamux.Stream) *Conn {
	c := &Conn{stream: s, peer: p, done: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := s.StreamID()
	p.open[id] = c
	p.last = max(p.last, id)
	for _, what := range p.early[id] {
		c.told(what)
	}
	delete(p.early, id)
	return c
}

func (p *peer) forget(id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, id)
}

// say tells the other side something of a stream.
func (p *peer) say(what byte, id uint32) {
	p.smu.Lock()
	defer p.smu.Unlock()
	if p.own == nil {
		return
	}
	p.own.Write(binary.BigEndian.AppendUint32([]byte{what}, id))
}

// listen hears what the other side says until the session ends.
func (p *peer) listen(own *yamux.Stream) {
	var b [sayLen]byte
	for {
		if _, err := io.ReadFull(own, b[:]); err != nil {
			break
		}
		p.hear(b[0], binary.BigEndian.Uint32(b[1:]))
	}
	close(p.heard)
	p.mux.Close()
}

func (p *peer) hear(what byte, id uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch c := p.open[id]; {
	case c != nil:
		c.told(what)
	case id > p.last && len(p.early) < backlog && len(p.early[id]) < 2:
		p.early[id] = append(p.early[id], what)
	}
}

// breakAll tells every stream that the session is over.
func (p *peer) breakAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		c.finish()
	}
}
