package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// callTimeout bounds a call that aegisd answers without waiting for a guest.
const callTimeout = 10 * time.Second

// tornError says that a signal ended the run, not the program.
type tornError struct{ signal syscall.Signal }

func (e tornError) Error() string { return fmt.Sprintf("ended by signal %d", int(e.signal)) }

func torn(sig os.Signal) error {
	if s, ok := sig.(syscall.Signal); ok {
		return tornError{s}
	}
	return tornError{syscall.SIGTERM}
}

// outcome turns what ended a run early into its exit code. Who sent a signal
// knows, so there is nothing to tell then.
func outcome(err error) (int, error) {
	if t, ok := errors.AsType[tornError](err); ok {
		return 128 + int(t.signal), nil
	}
	return Failed, err
}

// await makes a call and gives it up at the nth signal. A signal that came is
// the error, whether or not the call went well.
func (c *Client) await(ctx context.Context, n int, call func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	var interrupted error
	for {
		select {
		case err := <-done:
			if interrupted != nil {
				return interrupted
			}
			return err
		case sig := <-c.Signals:
			if interrupted == nil {
				interrupted = torn(sig)
			}
			if n--; n == 0 {
				cancel()
			}
		}
	}
}

// forward sends a signal to the program.
func (c *Client) forward(ctx context.Context, p program, sig os.Signal) {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := p.signal(ctx, int(number))
	if err == nil || ctx.Err() == context.Canceled || api.CodeOf(err) == api.BadState || api.CodeOf(err) == api.NotFound {
		return // delivered, or nobody waits for it any more, or just too late
	}
	c.Notice(fmt.Sprintf("the program did not get the signal (%v): once more ends it", err))
}
