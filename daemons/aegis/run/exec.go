package run

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// Exec runs one more program in instance ref, which is hung up when we go, and
// returns as Run does.
func (c *Client) Exec(ctx context.Context, ref string, spec api.ExecSpec) (int, error) {
	spec.Stdin = c.Stdin != nil && !spec.TTY
	var id string
	return c.with(ctx, ref, func(ctx context.Context) (streams *api.Streams, err error) {
		id, streams, err = c.Aegis.Exec(ctx, ref, spec)
		return streams, err
	}, &id, false)
}

// Reattach connects the caller with a detached program, which goes on when we
// go. On a terminal Ctrl-P Ctrl-Q leaves it, with exit code 0.
func (c *Client) Reattach(ctx context.Context, ref, id string) (int, error) {
	code, err := c.with(ctx, ref, func(ctx context.Context) (*api.Streams, error) {
		return c.Aegis.ReattachExec(ctx, ref, id)
	}, &id, true)
	if errors.Is(err, errLeft) {
		c.Notice(fmt.Sprintf("%s goes on: `aegis exec --attach %[1]s %s` connects with it again", id, ref))
		return 0, nil
	}
	return code, err
}

// with converses with the program whose streams open gives; id is read after
// that.
func (c *Client) with(ctx context.Context, ref string, open func(context.Context) (*api.Streams, error), id *string, detached bool) (int, error) {
	var streams *api.Streams
	err := c.await(ctx, 1, func(ctx context.Context) (err error) {
		streams, err = open(ctx)
		return err
	})
	if streams != nil {
		defer streams.Close()
	}
	if err != nil {
		return outcome(err)
	}
	rest := func(ctx context.Context) error { return awaitRest(ctx, streams.Session) }
	if *id == api.PrimaryExec {
		held := c.hold(ctx, ref, streams)
		defer held.letGo()
		rest = held.awaitEnd
	}
	p := c.execOf(ref, *id, streams)
	p.detached = detached
	end, err := c.converse(ctx, p)
	switch {
	case err != nil:
		return outcome(err)
	case end.gone != nil:
		return c.explainExec(ctx, ref, *id, rest)
	case end.lost != nil:
		return Failed, end.lost
	}
	return exitCode(end.status.Code), reason(end.status.Message)
}

// awaitRest waits until aegisd ends a session: the instance has come to rest
// then, or aegisd has gone.
func awaitRest(ctx context.Context, session *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, restTimeout)
	defer cancel()
	readToEnd(ctx, session)
	return nil
}

// explainExec finds out what became of a program whose machine went before it,
// once rest says that it is known.
func (c *Client) explainExec(ctx context.Context, ref, id string, rest func(context.Context) error) (int, error) {
	if err := c.await(ctx, 1, rest); err != nil {
		return outcome(err)
	}
	in, err := c.get(ctx, ref)
	switch {
	case api.CodeOf(err) == api.NotFound:
		return Failed, errors.New("the instance was deleted while the program ran")
	case err != nil:
		return Failed, fmt.Errorf("lost the program and aegisd with it: %w", err)
	case in.Phase == api.PhaseRunning:
		return Failed, fmt.Errorf("lost the connection to the program %s: it has ended meanwhile, or another client took it", id)
	case in.LastError != "":
		return Failed, errors.New(in.LastError)
	default:
		return Failed, fmt.Errorf("the instance was stopped while the program ran: it is %s", in.Phase)
	}
}
