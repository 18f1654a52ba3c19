package router

import (
	"context"
	"sync"
)

// hub tells watchers that something has changed. Changes that nobody has
// looked at yet are one.
type hub struct {
	mu       sync.Mutex
	closed   bool
	watchers map[chan struct{}]context.CancelFunc
}

func (h *hub) watch(ctx context.Context) <-chan struct{} {
	c := make(chan struct{}, 1)
	c <- struct{}{}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(c)
		return c
	}
	if h.watchers == nil {
		h.watchers = map[chan struct{}]context.CancelFunc{}
	}
	ctx, cancel := context.WithCancel(ctx)
	h.watchers[c] = cancel
	context.AfterFunc(ctx, func() { h.leave(c) })
	return c
}

func (h *hub) leave(c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if cancel := h.watchers[c]; cancel != nil {
		cancel()
		delete(h.watchers, c)
		close(c)
	}
}

func (h *hub) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// close ends all watches.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c, cancel := range h.watchers {
		cancel()
		delete(h.watchers, c)
		close(c)
	}
}
