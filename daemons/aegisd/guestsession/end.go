package guestsession

import (
	"net"
	"sync"
	"time"
)

// linger is how long the end of a connection is held back behind what came
// last on it.
const linger = 200 * time.Millisecond

// lingering is a connection whose end does not overtake an answer: ttrpc's
// client, which reads ahead, may take the end for the answer of a call that was
// answered a moment before. A guest that powers off has just said how its
// programs ended.
type lingering struct {
	net.Conn
	last   time.Time // read by the one reader only
	once   sync.Once
	closed chan struct{}
}

func newLingering(c net.Conn) *lingering { return &lingering{Conn: c, closed: make(chan struct{})} }

func (l *lingering) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.last = time.Now()
	}
	if err != nil && n == 0 {
		l.hold(linger - time.Since(l.last))
	}
	return n, err
}

func (l *lingering) hold(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.closed:
	}
}

func (l *lingering) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Conn.Close()
}
