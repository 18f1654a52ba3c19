package instance

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

// exitTimedOut is the exit code of a program that ran out of time, as
// timeout(1) has it.
const exitTimedOut = 124

// follow waits for the primary process of a boot to end. When the control
// connection breaks it asks the manager whether the machine is still there,
// and if so connects anew: the path through vmmd and worker may break where
// the guest did not. The program is lost when its machine has been there
// several times in a row and could not be reached; a manager that is away says
// nothing of either. A guest that hangs up at once is dialled ever more
// rarely: only a connection that stood for a while is made anew quickly.
func (o *owner) follow(b *boot, session *guestsession.Session) {
	const tries = 6
	backoff := o.svc.Timings.Retry
	var err error
	for answers := 0; answers < tries; {
		var st proto.ProcessStatus
		var stood time.Duration
		if st, stood, err = o.waitOn(b, session); err == nil {
			b.output.await(b.ctx)
			o.postBoot(b, func() { o.onExited(b, st.Code, st.Signal, st.Message) })
			return
		}
		if b.ctx.Err() != nil {
			return
		}
		gone, answered := o.machineGone(b)
		if gone {
			return
		}
		if errors.Is(err, guestsession.ErrNoProcess) {
			break
		}
		if stood > 0 {
			answers = 0
		}
		if stood > backoff {
			backoff = o.svc.Timings.Retry
		}
		if answered {
			answers++
		}
		if !pause(b.ctx, backoff) {
			return
		}
		session, backoff = nil, min(2*backoff, time.Second)
	}
	o.postBoot(b, func() {
		o.release(outcome{phase: api.PhaseFailed, err: lost(err)})
	})
}

// lost says what is known of a program that cannot be followed any more, and
// what is not.
func lost(err error) error {
	if errors.Is(err, guestsession.ErrNoProcess) {
		return api.Errorf(api.Unavailable, "the program has ended, how is not known: the guest has no record of its end any more")
	}
	return api.Errorf(api.Unavailable, "lost the program: its machine runs, but the guest cannot be reached, so whether the program ran on is not known: %w", err)
}

// waitOn waits for the primary process on a session, a new one if nil. It also
// returns how long there was one: 0 says that the guest could not be reached.
func (o *owner) waitOn(b *boot, session *guestsession.Session) (st proto.ProcessStatus, stood time.Duration, err error) {
	if session == nil {
		if err := o.awaitAwake(b); err != nil {
			return st, 0, err
		}
		if session, err = o.reconnect(b); err != nil {
			return st, 0, err
		}
	}
	begun := time.Now()
	st, err = session.Wait(b.ctx, primary)
	return st, max(time.Since(begun), 1), err
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reconnect replaces the control connection of a boot.
func (o *owner) reconnect(b *boot) (*guestsession.Session, error) {
	session, err := guestsession.Open(b.ctx, o.dial(b))
	if err != nil {
		return nil, err
	}
	err = o.ask(b.ctx, func() error {
		if o.boot != b || b.ctx.Err() != nil {
			return errReleased
		}
		if b.session != nil {
			b.session.Close()
		}
		b.session = session
		return nil
	})
	if err != nil {
		session.Close()
		return nil, err
	}
	return session, nil
}

// machineGone asks the manager, and tells the owner if so; answered is
// whether the manager knew.
func (o *owner) machineGone(b *boot) (gone, answered bool) {
	ctx, cancel := o.svc.bounded()
	defer cancel()
	info, err := o.svc.Machines.Get(ctx, b.machine)
	switch {
	case err == nil && info.State == vmm.StateEnded && info.Exit != nil:
		o.postBoot(b, func() { o.onMachineEnd(b, *info.Exit) })
		return true, true
	case api.CodeOf(err) == api.NotFound:
		o.postBoot(b, func() { o.onMachineEnd(b, vanished) })
		return true, true
	default:
		return false, api.CodeOf(err) != api.Unavailable
	}
}

// vanished is the end of a machine that the manager does not know any more.
var vanished = vmm.Exit{Reason: vmm.ReasonWorkerLost, Detail: "nothing is left of it"}

// setTimeout limits how long the primary process may run, counted from its
// start, however often aegisd was restarted meanwhile.
func (o *owner) setTimeout(b *boot) {
	if o.spec.TimeoutMS == 0 || o.rec.Status.Started == nil {
		return
	}
	left := time.Until(o.rec.Status.Started.Add(time.Duration(o.spec.TimeoutMS) * time.Millisecond))
	b.timer = time.AfterFunc(max(left, 0), func() {
		o.postBoot(b, func() { o.onTimeout(b) })
	})
}

// onTimeout asks the program to end; the record has exit code 124 from this
// moment on, whatever the program does with the signal. One that is still
// there after the grace goes with its machine.
func (o *owner) onTimeout(b *boot) {
	if b.exited || b.outcome != nil {
		return
	}
	code, limit := exitTimedOut, time.Duration(o.spec.TimeoutMS)*time.Millisecond
	o.rec.Status.ExitCode = &code
	o.rec.Status.LastError = fmt.Sprintf("timed out after %s", limit)
	o.commit("")
	o.note(api.LogStderr, "[aegis] %s", o.rec.Status.LastError)
	o.emit(api.EventProgress, o.rec.Status.LastError)
	b.timer = time.AfterFunc(o.svc.Timings.StopGrace, func() {
		o.postBoot(b, func() {
			if !b.exited {
				o.release(outcome{phase: api.PhaseStopped, now: true})
			}
		})
	})
	if session := b.session; session != nil {
		o.svc.tasks.Go(func() {
			if err := session.Signal(b.ctx, primary, int(syscall.SIGTERM)); err != nil {
				o.svc.Log.Warn("signal after timeout", "instance", o.id, "error", err)
			}
		})
	}
}
