package instance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// What a program of an exec prints without a client, and how it ends, is heard
// of the guest; the bytes of one with a client pass by.

// execBegun tells of an exec and begins to follow it. left is closed when its
// client has gone; of a detached one it is nil.
func (o *owner) execBegun(b *boot, session *guestsession.Session, p guestsession.Process, left <-chan struct{}) {
	o.emitExec(api.EventExecStarted, p.ID, shorten(oneLine(strings.Join(p.Argv, " "))), nil)
	var out *output
	if p.Kept {
		out = o.collectExec(b, p.ID)
	}
	o.svc.tasks.Go(func() { o.followExec(b, session, p.ID, out, left) })
}

// collectExec begins to collect what a program without a client prints.
func (o *owner) collectExec(b *boot, id string) *output {
	out := o.newOutput()
	b.logged.add(out)
	o.collectProcess(b, out, id, logs.Stream{Boot: b.generation, Source: api.LogExec, ExecID: id})
	return out
}

// followExec tells how an exec ended, once its output is in the log. One with a
// client is asked for when that has left: it hears of the end first.
func (o *owner) followExec(b *boot, session *guestsession.Session, id string, out *output, left <-chan struct{}) {
	if left != nil {
		select {
		case <-left:
		case <-b.ctx.Done():
			return
		}
	}
	var end proto.ProcessStatus
	err := o.persist(b, session, func(ctx context.Context, gs *guestsession.Session) (err error) {
		end, err = gs.Wait(ctx, id)
		return err
	})
	if err != nil {
		return // its machine has gone, which is told, or nobody knows any more
	}
	out.await(b.ctx)
	o.emitExec(api.EventExecEnded, id, exitText(end.Code, end.Signal, end.Message), &end)
}

func (o *owner) emitExec(kind, id, message string, end *proto.ProcessStatus) {
	in := o.view.Load()
	ev := api.Event{Type: kind, Instance: o.id, Handle: in.Handle, Phase: in.Phase, ExecID: id, Message: message}
	if end != nil {
		ev.ExitCode, ev.ExitSignal = &end.Code, end.Signal
	}
	o.svc.events.send(ev)
}

// persist makes a call of the guest until it is answered, on connections of its
// own where the one of the boot broke. It ends with the boot as well.
func (o *owner) persist(b *boot, session *guestsession.Session, call func(context.Context, *guestsession.Session) error) error {
	for backoff := o.svc.Timings.Retry; ; backoff = min(2*backoff, time.Second) {
		err := o.awaitAwake(b)
		if err == nil {
			err = o.withSession(b.ctx, b, session, func(gs *guestsession.Session) error { return call(b.ctx, gs) })
		}
		if err == nil || b.ctx.Err() != nil || guestsession.Refused(err) {
			return err
		}
		if gone, _ := o.machineGone(b); gone || !pause(b.ctx, backoff) {
			return fmt.Errorf("the guest is gone: %w", err)
		}
		session = nil
	}
}

// adoptExecs follows the programs that an earlier aegisd started. Of one that
// has ended meanwhile only what it printed is of interest.
func (o *owner) adoptExecs(b *boot) {
	var all []guestsession.Info
	err := o.persist(b, nil, func(ctx context.Context, gs *guestsession.Session) (err error) {
		all, err = gs.List(ctx)
		return err
	})
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			o.svc.Log.Warn("execs not found again", "instance", o.id, "error", err)
		}
		return
	}
	for _, p := range all {
		if p.ID == primary {
			continue
		}
		var out *output
		if p.Lifetime == proto.Lifetime_LIFETIME_DETACHED && !p.Terminal {
			out = o.collectExec(b, p.ID)
		}
		if p.Exit != nil {
			continue
		}
		heirs := map[bool]int{true: 1}[p.Lifetime == proto.Lifetime_LIFETIME_CLIENT]
		o.inherit(b, heirs)
		o.svc.tasks.Go(func() {
			o.followExec(b, nil, p.ID, out, nil)
			o.inherit(b, -heirs)
		})
	}
}

// inherit counts programs that go with clients of an earlier aegisd.
func (o *owner) inherit(b *boot, n int) {
	o.postBoot(b, func() { b.heirs = max(b.heirs+n, 0) })
}
