package instance

import (
	"context"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// backlog is how many events a reader may be behind before it is cut off.
const backlog = 1024

// hub hands every event to every reader. Sending never blocks and nothing is
// skipped: a reader whose backlog is full loses its stream.
type hub struct {
	mu      sync.Mutex // guards the fields below
	seq     uint64
	readers map[chan api.Event]struct{}
	closed  bool
}

func (h *hub) send(ev api.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	ev.Seq, ev.Time = h.seq, time.Now().UTC()
	for r := range h.readers {
		select {
		case r <- ev:
		default:
			h.drop(r)
		}
	}
}

// drop ends a reader's stream; h.mu is held.
func (h *hub) drop(r chan api.Event) {
	if _, there := h.readers[r]; there {
		delete(h.readers, r)
		close(r)
	}
}

func (h *hub) subscribe(ctx context.Context) (<-chan api.Event, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errClosing()
	}
	if h.readers == nil {
		h.readers = map[chan api.Event]struct{}{}
	}
	r := make(chan api.Event, backlog)
	h.readers[r] = struct{}{}
	context.AfterFunc(ctx, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.drop(r)
	})
	return r, nil
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for r := range h.readers {
		h.drop(r)
	}
}

func errClosing() error {
	return api.Errorf(api.Unavailable, "aegisd is stopping: start it again with `aegis up`")
}
