package manager

import (
	"context"
	"sync"

	"github.com/xfeldman/aegisvm/vmm"
)

// hub hands changes to watchers. Each has a queue of its own, so that a slow
// one loses nothing and holds up nobody; what waits is a few hundred bytes
// per change of a machine.
type hub struct {
	mu       sync.Mutex // guards the fields below and all queues
	watchers map[*watcher]bool
	closed   bool
	running  sync.WaitGroup
}

type watcher struct {
	queue []vmm.Info
	wake  chan struct{} // has room for one
	over  chan struct{} // closed with the hub
}

// watch starts a watcher, which first gets the given machines.
func (h *hub) watch(ctx context.Context, current []vmm.Info) <-chan vmm.Info {
	w := &watcher{queue: current, wake: make(chan struct{}, 1), over: make(chan struct{})}
	w.wake <- struct{}{}
	out := make(chan vmm.Info)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		close(out)
		return out
	}
	if h.watchers == nil {
		h.watchers = make(map[*watcher]bool)
	}
	h.watchers[w] = true
	h.running.Go(func() {
		defer close(out)
		h.deliver(ctx, w, out)
	})
	return out
}

func (h *hub) deliver(ctx context.Context, w *watcher, out chan<- vmm.Info) {
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}()
	for {
		select {
		case <-w.wake:
		case <-w.over:
			return
		case <-ctx.Done():
			return
		}
		for _, i := range h.take(w) {
			select {
			case out <- i:
			case <-w.over:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

func (h *hub) take(w *watcher) []vmm.Info {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := w.queue
	w.queue = nil
	return q
}

// publish hands a change to all watchers and never blocks.
func (h *hub) publish(i vmm.Info) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.queue = append(w.queue, i)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// close ends all watches.
func (h *hub) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for w := range h.watchers {
			close(w.over)
		}
	}
	h.mu.Unlock()
	h.running.Wait()
}
