package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/xfeldman/aegisvm/api"
)

// exitTimedOut is the exit code of a program that ran out of time, as
// timeout(1) has it.
const exitTimedOut = 124

// removeTimeout is how long aegisd may take to release an instance.
const removeTimeout = time.Minute

// verdict turns how the streams ended into the exit code and the line to tell
// with it.
func (c *Client) verdict(ctx context.Context, id string, held *hold, spec api.InstanceSpec, end ending) (int, error) {
	if end.gone != nil {
		return c.explain(ctx, id, held)
	}
	if spec.TimeoutMS > 0 {
		// The guest knows of a signal only; the record says whose it was.
		if in, err := c.get(ctx, id); err == nil && in.ExitCode != nil && *in.ExitCode == exitTimedOut {
			return exitTimedOut, reason(in.LastError)
		}
	}
	if end.lost != nil {
		return Failed, end.lost
	}
	return exitCode(end.status.Code), reason(end.status.Message)
}

// explain finds out what became of a program whose machine went before it.
func (c *Client) explain(ctx context.Context, id string, held *hold) (int, error) {
	err := c.await(ctx, 1, held.awaitEnd)
	if err != nil {
		return outcome(err)
	}
	in, err := c.get(ctx, id)
	switch {
	case api.CodeOf(err) == api.NotFound:
		return Failed, errors.New("the instance was deleted while its program ran")
	case err != nil:
		return Failed, fmt.Errorf("lost the program and aegisd with it: if its machine still runs, the next start of aegisd releases it: %w", err)
	case in.ExitCode != nil && in.Phase != api.PhaseFailed && *in.ExitCode == exitTimedOut:
		return exitTimedOut, reason(in.LastError)
	case in.ExitCode != nil:
		err := fmt.Errorf("the machine went before all that the program wrote had come; the program had ended with exit code %d", *in.ExitCode)
		if in.LastError != "" {
			err = fmt.Errorf("%w: %s", err, in.LastError)
		}
		return Failed, err
	case in.LastError != "":
		return Failed, errors.New(in.LastError)
	case in.Phase == api.PhaseRunning:
		return Failed, errors.New("lost the connection to the program: its machine is being released")
	default:
		return Failed, fmt.Errorf("the instance was stopped while its program ran: it is %s", in.Phase)
	}
}

func (c *Client) get(ctx context.Context, id string) (api.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.Aegis.Get(ctx, id)
}

// remove waits until nothing of the instance is left, or a signal ends the
// waiting; aegisd goes on by itself.
func (c *Client) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	err := c.await(ctx, 1, func(ctx context.Context) error { return c.Aegis.Delete(ctx, id) })
	if _, given := errors.AsType[tornError](err); err == nil || given || api.CodeOf(err) == api.NotFound {
		return nil
	}
	return fmt.Errorf("the machine is not released yet, aegisd does that when it can: %w", err)
}

// exitCode keeps what a guest says within what a process can end with.
func exitCode(code int) int {
	if code < 0 || code > 255 {
		return Failed
	}
	return code
}

// reason makes an error of a line that a guest may have written.
func reason(text string) error {
	if text == "" {
		return nil
	}
	const limit = 1000
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return errors.New(text[:min(len(text), limit)])
}
