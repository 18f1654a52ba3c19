package run

import (
	"context"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// program is what a conversation is with.
type program struct {
	streams *api.Streams
	signal  func(ctx context.Context, number int) error
	resize  func(ctx context.Context, rows, cols int) error
	// detached says that it goes on when its client leaves, for which there
	// are keys.
	detached bool
}

// primary is the own program of instance id.
func (c *Client) primary(id string, streams *api.Streams) program {
	p := c.execOf(id, api.PrimaryExec, streams)
	p.signal = func(ctx context.Context, number int) error { return c.Aegis.Signal(ctx, id, number) }
	return p
}

// execOf is another program of an instance.
func (c *Client) execOf(ref, id string, streams *api.Streams) program {
	return program{
		streams: streams,
		signal:  func(ctx context.Context, number int) error { return c.Aegis.SignalExec(ctx, ref, id, number) },
		resize:  func(ctx context.Context, rows, cols int) error { return c.Aegis.ResizeExec(ctx, ref, id, rows, cols) },
	}
}

// enter gives the program the caller's terminal, until leave is called. Its
// size follows the caller's; a change that the program does not hear of is
// made good by the next.
func (c *Client) enter(ctx context.Context, p program) (leave func(), err error) {
	changes, stop := c.Console.Resized()
	if err := c.Console.Raw(); err != nil {
		stop()
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with leave
		defer close(done)
		defer c.Console.Guard()
		c.followSize(ctx, p, changes)
	}()
	return func() {
		c.Console.Restore()
		stop()
		cancel()
		<-done
	}, nil
}

func (c *Client) followSize(ctx context.Context, p program, changes <-chan os.Signal) {
	for {
		if rows, cols := c.Console.Size(); rows > 0 && cols > 0 {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			_ = p.resize(call, rows, cols)
			cancel()
		}
		select {
		case <-changes:
		case <-ctx.Done():
			return
		}
	}
}
