package link

import (
	"io"
	"math/rand/v2"
	"sync"
)

// wire is a serial port whose host end can be pulled out and plugged in again,
// with what is under way cut anywhere. The guest's end is the wire itself.
type wire struct {
	mu   sync.Mutex
	cond *sync.Cond
	// toGuest and toHost are under way; they hold up to wireRoom bytes.
	toGuest, toHost []byte
	plugs           int // how many hosts there were
	closed          bool
}

const wireRoom = 100 << 10

func newWire() *wire {
	w := &wire{}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *wire) Read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.toGuest) == 0 {
		if w.closed {
			return 0, io.EOF
		}
		w.cond.Wait()
	}
	n := copy(b[:1+rand.IntN(len(b))], w.toGuest) // reads are short at will
	w.toGuest = w.toGuest[n:]
	w.cond.Broadcast()
	return n, nil
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.put(&w.toHost, b, func() bool { return w.closed })
}

// put moves b into a queue as room comes.
func (w *wire) put(q *[]byte, b []byte, over func() bool) (int, error) {
	for n := 0; ; {
		if over() {
			return n, io.ErrClosedPipe
		}
		if room := wireRoom - len(*q); room > 0 {
			m := min(room, len(b)-n)
			*q = append(*q, b[n:n+m]...)
			n += m
			w.cond.Broadcast()
		}
		if n == len(b) {
			return n, nil
		}
		w.cond.Wait()
	}
}

func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.cond.Broadcast()
	return nil
}

// plug returns a new host's end. The former host has none any more; of what
// it sent only a part arrives, and of what it was sent only a part is left.
func (w *wire) plug() io.ReadWriteCloser {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.plugs++
	w.toGuest = w.toGuest[:rand.IntN(len(w.toGuest)+1)]
	w.toHost = w.toHost[rand.IntN(len(w.toHost)+1):]
	w.cond.Broadcast()
	return &plug{w: w, number: w.plugs}
}

// plug is one host's end of a wire.
type plug struct {
	w      *wire
	number int
	closed bool
}

func (p *plug) over() bool { return p.closed || p.w.closed || p.w.plugs != p.number }

func (p *plug) Read(b []byte) (int, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	for {
		if p.over() {
			return 0, io.EOF
		}
		if len(p.w.toHost) > 0 {
			n := copy(b[:1+rand.IntN(len(b))], p.w.toHost)
			p.w.toHost = p.w.toHost[n:]
			p.w.cond.Broadcast()
			return n, nil
		}
		p.w.cond.Wait()
	}
}

func (p *plug) Write(b []byte) (int, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.w.put(&p.w.toGuest, b, p.over)
}

func (p *plug) Close() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.closed = true
	p.w.cond.Broadcast()
	return nil
}
