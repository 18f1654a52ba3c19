package link

import (
	"sync"
	"time"
)

// signal tells one waiter that something has changed. It stays raised until
// somebody has seen it.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// deadline is a time that can be changed while somebody waits for it, as that
// of net.Pipe.
type deadline struct{ *deadlineState }

type deadlineState struct {
	mu    sync.Mutex
	timer *time.Timer
	over  chan struct{} // closed when the time has come
}

func newDeadline() deadline { return deadline{&deadlineState{over: make(chan struct{})}} }

// set sets the time; the zero time never comes.
func (d deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.over // the timer is about to close it
	}
	d.timer = nil
	passed := d.passedLocked()
	if passed {
		d.over = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	if wait := time.Until(t); wait > 0 {
		over := d.over
		d.timer = time.AfterFunc(wait, func() { close(over) })
		return
	}
	close(d.over)
}

// wait is closed when the time has come.
func (d deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

func (d deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.passedLocked()
}

func (d deadline) passedLocked() bool {
	select {
	case <-d.over:
		return true
	default:
		return false
	}
}
