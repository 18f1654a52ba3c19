package instance

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// waiter is an Attach call that waits for its streams.
type waiter struct {
	done chan attachment // buffered
}

type attachment struct {
	streams *api.Streams
	err     error
}

// Attach implements api.Aegis. An instance with AutoRemove goes when the
// client that waits here goes; one without goes on.
func (s *Service) Attach(ctx context.Context, ref string) (*api.Streams, error) {
	o, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	w := &waiter{done: make(chan attachment, 1)}
	err = o.awaken(ctx, "an attach")
	if err == nil {
		err = o.ask(ctx, func() error { return o.onAttach(w) })
	}
	if err != nil {
		if ctx.Err() != nil {
			o.post(func() { o.onAbandoned(w) })
		}
		return nil, atBoundary(err)
	}
	select {
	case a := <-w.done:
		return a.streams, atBoundary(a.err)
	case <-ctx.Done():
		o.post(func() { o.onAbandoned(w) })
		return nil, interrupted(ctx)
	case <-s.ctx.Done():
		return nil, errClosing()
	}
}

func (o *owner) onAttach(w *waiter) error {
	switch {
	case !o.spec.Attach:
		return api.Errorf(api.BadState, "instance %s has no streams: create it with attach", o.id)
	case o.waiter != nil || o.client == clientOpen || o.rec.Status.Attached:
		return api.Errorf(api.BadState, "instance %s is attached already: its streams are handed out once", o.id)
	case o.removing:
		return api.Errorf(api.BadState, "instance %s is being deleted", o.id)
	case o.boot == nil && o.startErr == nil:
		return api.Errorf(api.BadState, "instance %s is %s: start it first", o.id, o.rec.Status.Phase)
	}
	o.waiter = w
	o.serveWaiter()
	o.reconsider()
	return nil
}

// serveWaiter hands the streams to a client that waits, if both are there.
func (o *owner) serveWaiter() {
	b, w := o.boot, o.waiter
	if w == nil || b == nil || b.streams == nil || b.outcome != nil {
		return
	}
	session, err := o.openSession()
	if err != nil {
		o.failWaiter(err)
		return
	}
	if !o.rec.Status.Attached {
		o.rec.Status.Attached = true
		o.commit("")
	}
	streams := b.streams
	b.streams, o.waiter = nil, nil
	streams.Session = session
	w.done <- attachment{streams: streams}
}

// failWaiter tells a client that waits that there will be no streams; it has
// no further interest in the instance then.
func (o *owner) failWaiter(err error) {
	if o.waiter == nil {
		return
	}
	o.waiter.done <- attachment{err: err}
	o.waiter = nil
	o.stopWaitingForClient()
	o.client = clientGone
}

// onAbandoned is told when a client has gone while it waited, or while its
// streams were on their way.
func (o *owner) onAbandoned(w *waiter) {
	if o.waiter == w || o.waiter == nil && o.client == clientAwaited {
		o.waiter = nil
		o.client = clientGone
		o.reconsider()
		return
	}
	select {
	case a := <-w.done:
		if a.streams != nil {
			a.streams.Close() // watchSession sees it
		}
	default:
	}
}

// tellRest tells the clients of an instance that has come to rest: one that
// waits for streams gets the reason, one that holds a session reads its end
// and finds how it ended in the record.
func (o *owner) tellRest() {
	if o.session != nil {
		shutdownWrite(o.session)
	}
	o.execs.close()
	if o.waiter == nil {
		return
	}
	err := o.startErr
	if err == nil {
		err = api.Errorf(api.BadState, "instance %s was stopped", o.id)
	}
	o.failWaiter(err)
	o.reconsider()
}

// watchSession waits for the client to close its session. Its first byte says
// that it has it; what else it may send means nothing.
func (o *owner) watchSession(ours *os.File) {
	stop := context.AfterFunc(o.svc.ctx, func() { ours.Close() })
	defer stop()
	buf := make([]byte, 64)
	for first := true; ; first = false {
		if _, err := ours.Read(buf); err != nil {
			break
		}
		if first {
			o.post(func() { o.onTaken(ours) })
		}
	}
	o.post(func() { o.onLeft(ours) })
}

func (o *owner) closeSession() {
	if o.session != nil {
		o.session.Close()
		o.session = nil
	}
}

// sessionPair makes the two ends of a session.
func sessionPair() (ours, theirs *os.File, err error) {
	// No child may be born with a descriptor of it: it would keep the session
	// open after the client's death.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a session: %w", err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "session"), os.NewFile(uintptr(fds[1]), "session"), nil
}

// shutdownWrite makes the other end read an end without closing ours.
func shutdownWrite(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
}
