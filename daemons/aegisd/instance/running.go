package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
)

// running is an instance that runs, as it was when it was asked.
type running struct {
	svc     *Service
	o       *owner // for its methods only
	b       *boot
	session *guestsession.Session
	// as is a copy of what the owner may change.
	as     *owner
	config *image.Config
	digest string
	// unclaimed says that nobody has fetched the primary process's streams.
	unclaimed bool
}

// runs finds an instance that runs; a paused one goes on, for why.
func (s *Service) runs(ctx context.Context, ref, why string) (*running, error) {
	o, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if err := o.awaken(ctx, why); err != nil {
		return nil, err
	}
	r := &running{svc: s, o: o}
	err = o.ask(ctx, func() error {
		b := o.boot
		if phase := o.view.Load().Phase; phase != api.PhaseRunning || b == nil || b.outcome != nil {
			return notRunning(o.id, phase)
		}
		r.b, r.session, r.config, r.digest = b, b.session, b.config, o.rec.Status.Digest
		r.as = &owner{svc: s, id: o.id, spec: o.spec}
		r.unclaimed = b.streams != nil
		return nil
	})
	return r, err
}

// notRunning says what to do about an instance that runs no programs.
func notRunning(id string, phase api.Phase) error {
	todo := map[api.Phase]string{
		api.PhaseStarting: "try again when it runs", api.PhaseStopping: "start it again when it has stopped",
	}[phase]
	return api.Errorf(api.BadState, "instance %s is %s and runs no programs: %s", id, phase, firstOf(todo, "start it first"))
}

// process is what the guest is asked to start.
func (r *running) process(ctx context.Context, spec api.ExecSpec) (guestsession.Process, error) {
	conf, err := r.imageConfig(ctx)
	if err != nil {
		return guestsession.Process{}, err
	}
	base, err := r.as.environment(ctx, conf)
	if err != nil {
		return guestsession.Process{}, err
	}
	more := &owner{svc: r.svc, spec: api.InstanceSpec{Secrets: spec.Secrets, EnvSecrets: spec.EnvSecrets}}
	secrets, err := more.secretEnv(ctx)
	if err != nil {
		return guestsession.Process{}, err
	}
	p := guestsession.Process{
		ID: newExecID(), Argv: spec.Command, Env: environment(base, secrets, spec.Env),
		Cwd:     firstOf(spec.Workdir, firstOf(r.as.spec.Workdir, conf.Workdir)),
		User:    firstOf(spec.User, firstOf(r.as.spec.User, conf.User)),
		Streams: true, Stdin: spec.Stdin, Terminal: terminalOf(spec.Terminal),
		Lifetime: proto.Lifetime_LIFETIME_CLIENT, Timeout: time.Duration(spec.TimeoutMS) * time.Millisecond,
	}
	if spec.Detach {
		p.Lifetime, p.Kept = proto.Lifetime_LIFETIME_DETACHED, !spec.TTY
	}
	total := 0
	for _, word := range slices.Concat(p.Argv, p.Env) {
		total += len(word) + 1
	}
	if total > maxArguments {
		return p, invalid("command and environment take %d bytes with the instance's: at most %d are allowed: pass data on stdin", total, maxArguments)
	}
	return p, nil
}

// imageConfig is what the image says. Of a machine that an earlier aegisd
// started it is read back.
func (r *running) imageConfig(ctx context.Context) (image.Config, error) {
	if r.config != nil {
		return *r.config, nil
	}
	img, err := r.svc.Images.Prepare(ctx, r.digest, nil)
	if err != nil {
		return image.Config{}, fmt.Errorf("reading the image: %w", err)
	}
	err = r.o.ask(ctx, func() error {
		r.b.config = &img.Config
		return nil
	})
	return img.Config, err
}

func newExecID() string {
	id := make([]byte, 6)
	rand.Read(id)
	return "exec-" + hex.EncodeToString(id)
}

// call makes a call of the guest, anew where the connection broke. It does not
// end with the caller: a call that is given up costs all others the session.
func (r *running) call(id string, call func(context.Context, *guestsession.Session) error) error {
	defer r.o.calling()()
	ctx, cancel := r.svc.bounded()
	defer cancel()
	err := r.o.withSession(ctx, r.b, r.session, func(gs *guestsession.Session) error { return call(ctx, gs) })
	if err != nil && r.session != nil && !guestsession.Refused(err) {
		err = r.o.withSession(ctx, r.b, nil, func(gs *guestsession.Session) error { return call(ctx, gs) })
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, guestsession.ErrNoProcess):
		return api.Errorf(api.NotFound, "instance %s has no exec %q (any more): see `aegis exec --list` for those there are", r.o.id, shorten(id))
	case errors.Is(err, guestsession.ErrNoTerminal):
		return api.Errorf(api.BadState, "exec %s of instance %s has no terminal: only one with tty can be resized", shorten(id), r.o.id)
	case errors.Is(err, guestsession.ErrMany):
		return api.Errorf(api.LimitExceeded, "instance %s: %w: end some", r.o.id, err)
	default:
		return api.Errorf(api.Unavailable, "instance %s: %w", r.o.id, err)
	}
}

// streams connects a client with a program; left, if not nil, is closed when it
// has gone.
func (r *running) streams(ctx context.Context, id string, tty, stdin bool, left chan struct{}) (*api.Streams, error) {
	session, err := r.o.openExec(ctx, r.b, left)
	if err != nil {
		return nil, atBoundary(err)
	}
	streams, err := r.o.streams(r.b.ctx, r.b, id, tty, stdin)
	if err != nil {
		session.Close()
		return nil, api.Errorf(api.Unavailable, "instance %s: %w", r.o.id, err)
	}
	streams.Session = session
	return streams, nil
}

// abandon hangs up a program that nobody will have.
func (r *running) abandon(id string) {
	err := r.call(id, func(ctx context.Context, gs *guestsession.Session) error {
		return gs.Signal(ctx, id, int(syscall.SIGHUP))
	})
	if err != nil && api.CodeOf(err) != api.NotFound {
		r.svc.Log.Warn("exec left to itself", "instance", r.o.id, "exec", id, "error", err)
	}
}

// reattachPrimary connects a client with the primary process anew; it counts
// as the client of the instance from now on.
func (r *running) reattachPrimary(ctx context.Context, p guestsession.Info) (*api.Streams, error) {
	o := r.o
	streams, err := o.streams(r.b.ctx, r.b, primary, p.Terminal, p.Stdin)
	if err != nil {
		return nil, api.Errorf(api.Unavailable, "instance %s: %w", o.id, err)
	}
	err = o.ask(ctx, func() error {
		if o.boot != r.b || r.b.outcome != nil || o.waiter != nil || o.client == clientOpen {
			return api.Errorf(api.BadState, "instance %s was stopped, or attached to by another client", o.id)
		}
		streams.Session, err = o.openSession()
		return err
	})
	if err != nil {
		streams.Close()
		return nil, atBoundary(err)
	}
	return streams, nil
}
