package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
	"github.com/xfeldman/aegisvm/vmm/dialer"
)

// longestBackoff bounds the pause after wakes that failed.
const longestBackoff = time.Minute

// backend is an instance as its ports see it: whether it is awake, who keeps
// it so, and what came of the last wake.
type backend struct {
	service  *Service
	instance string
	handle   string // its name, if it has one; the service's to guard

	mu     sync.Mutex // guards the fields below
	users  int        // connections that are open or wait
	await  int        // of those, the ones that have not reached their program yet
	held   *held      // the lease, nil without one
	waking *waking    // the wake under way, nil without one
	linger *time.Timer
	failed error // why the last wake came to nothing
	pause  time.Duration
	until  time.Time // no wake before
}

// waking is one wake that all wait for.
type waking struct {
	renew bool
	done  chan struct{} // closed when held or err is set
	held  *held
	err   error
}

func newBackend(s *Service, instance string) *backend {
	return &backend{service: s, instance: instance}
}

// connect leads to the program of a port. release is called when the
// connection has ended.
func (b *backend) connect(ctx context.Context, p Port) (guest forward.Stream, release func(), err error) {
	b.enter()
	defer b.arrived()
	for tries := 0; tries < 2; { // that a machine is gone may show only when it is dialled
		var h *held
		if h, err = b.lease(ctx); err != nil {
			break
		}
		if c, drop := h.guest.direct(ctx, p); c != nil {
			b.served(h)
			return c, func() { drop(); b.leave() }, nil
		}
		guest, err = h.dial(ctx, p, b.service.Limits)
		if err == nil {
			b.served(h)
			return guest, b.leave, nil
		}
		if !gone(err) {
			break
		}
		if b.replaced(h) {
			continue // it was put to sleep meanwhile, and has been woken for us
		}
		tries++
		b.lost(h)
		if !h.served.Load() {
			b.fail(err)
		}
	}
	b.leave()
	return nil, nil, err
}

// gone tells an end of the guest from what it answers.
func gone(err error) bool {
	for _, end := range []error{dialer.ErrClosed, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// enter counts a connection.
func (b *backend) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users++
	b.await++
	if b.linger != nil {
		b.linger.Stop()
		b.linger = nil
	}
	b.tellUse()
}

// arrived tells that a connection has reached its program, or never will.
func (b *backend) arrived() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.await--
}

// replaced tells whether there is a newer lease than h.
func (b *backend) replaced(h *held) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held != nil && b.held != h
}

// slept is told when the instance is put to sleep: those on their way to it
// need it awake.
func (b *backend) slept() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.await > 0 && b.waking == nil && b.service.ctx.Err() == nil {
		b.begin(false)
	}
}

// leave counts it out. The last one leaves the lease for a moment.
func (b *backend) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users--
	b.tellUse()
	if b.users == 0 && b.held != nil {
		b.linger = time.AfterFunc(b.service.Limits.Linger, b.letGo)
	}
}

func (b *backend) tellUse() {
	if b.held != nil {
		b.held.use(b.users)
	}
}

// letGo ends the lease that nobody needs.
func (b *backend) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.users == 0 && b.held != nil {
		b.held.close()
		b.held = nil
	}
}

// lease gives the lease that there is, or waits for the wake under way, or
// begins one.
func (b *backend) lease(ctx context.Context) (*held, error) {
	for {
		b.mu.Lock()
		if h := b.held; h != nil && !h.asleep.Load() {
			b.mu.Unlock()
			return h, nil
		}
		resting, failed := time.Now().Before(b.until), b.failed
		w := b.waking
		if w == nil {
			// While wakes fail, one that others have woken is still of use.
			w = b.begin(resting)
		}
		b.mu.Unlock()
		select {
		case <-w.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		switch {
		case w.err == nil && !w.held.asleep.Load():
			return w.held, nil
		case w.renew && resting:
			return nil, failed
		case w.err != nil && !w.renew:
			return nil, w.err
		}
	}
}

// begin begins a wake, which goes on whoever waits.
func (b *backend) begin(renew bool) *waking {
	w := &waking{done: make(chan struct{}), renew: renew}
	b.waking = w
	b.service.tasks.Go(func() {
		ctx, cancel := context.WithTimeoutCause(b.service.ctx, b.service.Limits.Wake,
			fmt.Errorf("it did not wake within %v", b.service.Limits.Wake))
		defer cancel()
		h, err := b.wake(ctx, renew)
		b.woken(w, h, err)
	})
	return w
}

func (b *backend) wake(ctx context.Context, renew bool) (*held, error) {
	a, err := b.service.Waker.Wake(ctx, b.instance, renew)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = api.Errorf(api.Unavailable, "instance %s: %w", b.instance, cause)
		}
		return nil, err
	}
	return hold(a)
}

// woken takes what came of a wake.
func (b *backend) woken(w *waking, h *held, err error) {
	defer close(w.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waking = nil
	if err == nil && b.service.ctx.Err() != nil {
		h.close()
		err = errClosing()
	}
	if err != nil {
		w.err = err
		if !w.renew {
			b.noteFailure(err)
		}
		return
	}
	if b.held != nil {
		b.held.close()
	}
	b.held, w.held = h, h
	b.tellUse()
	b.service.tasks.Go(func() {
		h.follow(b.slept)
		b.lost(h)
	})
	if b.users == 0 {
		b.linger = time.AfterFunc(b.service.Limits.Linger, b.letGo)
	}
}

// noteFailure keeps the next wake from following at once. A refusal of one
// that is not to be woken cost nothing and is no failure.
func (b *backend) noteFailure(err error) {
	switch api.CodeOf(err) {
	case api.BadState, api.NotFound, api.Denied:
		return
	}
	b.failed = err
	b.pause = min(max(2*b.pause, b.service.Limits.Retry), longestBackoff)
	b.until = time.Now().Add(b.pause)
	b.service.Log.Warn("waking failed", "instance", b.instance, "error", err, "pause", b.pause)
}

// fail notes that a machine was gone before anybody was served.
func (b *backend) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noteFailure(api.Errorf(api.Unavailable, "instance %s ended before it answered: %w", b.instance, err))
}

// served notes that the instance answers.
func (b *backend) served(h *held) {
	if h.served.Swap(true) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.pause, b.until = nil, 0, time.Time{}
}

// close ends the lease with the service.
func (b *backend) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held != nil {
		b.held.close()
	}
}

// lost drops a lease that has ended. With connections open it may be aegisd
// that has ended and not the machine: then the lease is taken anew.
func (b *backend) lost(h *held) {
	h.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held != h {
		return
	}
	b.held = nil
	if b.users > 0 && b.service.ctx.Err() == nil {
		b.service.tasks.Go(b.renew)
	}
}

// renew takes the lease anew for the connections that are open.
func (b *backend) renew() {
	for pause := renewPause; wait(b.service.ctx, pause); pause = min(2*pause, b.service.Limits.Retry) {
		b.mu.Lock()
		if b.users == 0 || b.held != nil {
			b.mu.Unlock()
			return
		}
		w := b.waking
		if w == nil {
			w = b.begin(true)
		}
		b.mu.Unlock()
		select {
		case <-w.done:
		case <-b.service.ctx.Done():
			return
		}
		if w.held != nil || api.CodeOf(w.err) == api.BadState || api.CodeOf(w.err) == api.NotFound {
			return
		}
	}
}

// renewPause lets the end of a machine reach its connections before anybody is
// asked.
const renewPause = 50 * time.Millisecond

// dial has the guest connect to one of its ports, and hears whether somebody is
// there.
// Many connections at once wait for one another on their way to a slow guest.
func (h *held) dial(ctx context.Context, p Port, limits Limits) (forward.Stream, error) {
	queued, cancel := context.WithTimeoutCause(ctx, limits.Wake, errors.New("its guest takes no connections"))
	defer cancel()
	c, err := h.guest.dialer.Dial(queued)
	if err == nil {
		err = h.ask(ctx, c, p, limits.Ready)
	}
	if err == nil {
		return c, nil
	}
	if c != nil {
		c.Close()
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("its guest hung up, or is of an older release: %w", err)
	}
	return nil, fmt.Errorf("port %d of instance %s: %w", p.GuestPort, p.Instance, err)
}

// ask asks the guest for the program and waits for the answer.
func (h *held) ask(ctx context.Context, c *net.UnixConn, p Port, ready time.Duration) error {
	patience := max(ready-time.Since(h.started), 0)
	ctx, cancel := context.WithTimeoutCause(ctx, patience+answerTime, errors.New("its guest does not answer"))
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	err := forward.WriteTarget(c, forward.Target{Network: p.network(), Port: uint16(p.GuestPort), Wait: patience})
	if err == nil {
		err = forward.ReadAnswer(c)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// answerTime is how long a guest may take to say whether somebody is there; it
// gives up by itself before.
const answerTime = time.Minute
