// Package readers tells things to whoever follows them.
package readers

import (
	"context"
	"sync"
)

// backlog is how much a reader may be behind.
const backlog = 256

// Readers are who is told of something. Telling never blocks: who does not read
// loses the oldest. The zero value is nobody.
type Readers[T any] struct {
	mu    sync.Mutex // guards chans
	chans map[chan T]struct{}
}

// Follow adds a reader, until ctx ends, which is told some things at once.
func (r *Readers[T]) Follow(ctx context.Context, first ...T) <-chan T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chans == nil {
		r.chans = map[chan T]struct{}{}
	}
	c := make(chan T, backlog)
	for _, v := range first {
		c <- v
	}
	r.chans[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.chans, c)
		close(c)
	})
	return c
}

// Tell tells all readers.
func (r *Readers[T]) Tell(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.chans {
		select {
		case c <- v:
			continue
		default:
		}
		select {
		case <-c:
		default: // it has read just now
		}
		c <- v
	}
}
