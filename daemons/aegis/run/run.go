// Package run is journeys 1 and 4 as the client sees them: it creates an
// ephemeral instance, or an exec in one that runs, connects the caller's
// descriptors with those of its program, forwards signals, and turns whatever
// happens into one exit code. It owns nothing that outlives it: when it
// returns, the instance is gone, or the error says why not. It parses no flags
// and starts no daemon.
package run

import (
	"context"
	"os"
	"sync"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/console"
	"github.com/xfeldman/aegisvm/daemons/aegis/progress"
)

// Failed is the exit code that says that the runtime failed, not the program.
const Failed = 125

// Client runs one program for one caller.
type Client struct {
	Aegis api.Aegis
	// Stdin is passed to the program; nil gives it none.
	Stdin *os.File
	// Stdout and Stderr receive what the program writes.
	Stdout, Stderr *os.File
	// Terminal is where progress is shown while the caller waits; nil shows
	// none.
	Terminal *os.File
	// Console is the caller's terminal, if the program is to have one; nil for
	// none. While the program has it the keys are bytes, and signals tear down
	// at once.
	Console *console.Console
	// Signals are those that the caller was sent. While the machine starts
	// the first one tears it down; later the first one goes to the program
	// and the second one tears down. SIGHUP does both at once.
	Signals <-chan os.Signal
	// Notice tells the caller one line that is not the result.
	Notice func(line string)
}

// Run runs spec.Command in a new machine and returns the exit code: the
// program's, 126 or 127 when it could not be started, 128 + n for signal n
// (SIGPIPE when nobody reads our output any more), Failed when the runtime
// failed. The error, if any, is the line to tell with it.
func (c *Client) Run(ctx context.Context, spec api.InstanceSpec) (int, error) {
	spec.Attach, spec.AutoRemove, spec.Stdin = true, true, c.Stdin != nil && !spec.TTY
	id, err := c.create(ctx, spec)
	if id == "" {
		return outcome(err)
	}
	code := 0
	if err == nil {
		code, err = c.live(ctx, id, spec)
	} else {
		code, err = outcome(err)
	}
	if left := c.remove(ctx, id); err == nil {
		err = left
	}
	return code, err
}

// live is what happens between an instance's creation and its removal.
func (c *Client) live(ctx context.Context, id string, spec api.InstanceSpec) (int, error) {
	streams, err := c.attach(ctx, id)
	if err != nil {
		return outcome(err)
	}
	defer streams.Close()
	held := c.hold(ctx, id, streams)
	defer held.letGo()
	end, err := c.converse(ctx, c.primary(id, streams))
	if err != nil {
		return outcome(err)
	}
	return c.verdict(ctx, id, held, spec, end)
}

// create lets only a second signal interrupt it: with the answer the name of
// what must go would be lost.
func (c *Client) create(ctx context.Context, spec api.InstanceSpec) (id string, err error) {
	err = c.await(ctx, 2, func(ctx context.Context) error {
		in, err := c.Aegis.Create(ctx, api.Caller{}, spec)
		id = in.ID
		return err
	})
	return id, err
}

// attach waits for the program to start.
func (c *Client) attach(ctx context.Context, id string) (streams *api.Streams, err error) {
	if c.Terminal != nil {
		defer progress.Show(ctx, c.Aegis, id, c.Terminal)()
	}
	err = c.await(ctx, 1, func(ctx context.Context) (err error) {
		streams, err = c.Aegis.Attach(ctx, id)
		return err
	})
	if err != nil && streams != nil {
		streams.Close()
	}
	return streams, err
}

// converse lets the bytes flow until the program's streams have ended.
func (c *Client) converse(ctx context.Context, p program) (ending, error) {
	raw := c.Console != nil && p.streams.Terminal != nil
	if raw {
		leave, err := c.enter(ctx, p)
		if err != nil {
			return ending{}, err
		}
		defer leave()
	}
	flow := c.connect(p.streams)
	left := c.typeInto(p)
	var forwards sync.WaitGroup
	defer forwards.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for first := true; ; first = false {
		select {
		case end := <-flow.ended:
			return end, nil
		case err := <-flow.broken:
			return ending{}, err
		case <-left:
			return ending{}, errLeft
		case <-ctx.Done():
			return ending{}, context.Cause(ctx)
		case sig := <-c.Signals:
			if !first || raw {
				return ending{}, torn(sig)
			}
			if sig == syscall.SIGHUP {
				c.forward(ctx, p, sig)
				return ending{}, torn(sig)
			}
			forwards.Go(func() { c.forward(ctx, p, sig) })
		}
	}
}
