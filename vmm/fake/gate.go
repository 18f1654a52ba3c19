package fake

import (
	"context"
	"sync"

	"github.com/xfeldman/aegisvm/vmm"
)

// gate is what a paused guest waits at.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the machine runs
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// wait returns nil once the gate is open; the end of the machine and of ctx
// are the other exits.
func (g *gate) wait(ctx context.Context, done <-chan struct{}) error {
	for {
		g.mu.Lock()
		open := g.open
		g.mu.Unlock()
		select {
		case <-done:
			return vmm.ErrEnded
		default:
		}
		select {
		case <-open:
			if g.isOpen() {
				return nil
			}
		case <-done:
			return vmm.ErrEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		return true
	default:
		return false
	}
}
