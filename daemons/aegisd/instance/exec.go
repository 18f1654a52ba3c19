package instance

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// The programs of an instance are the guest's to know: no record of them is
// kept here, so that a restart of aegisd loses none and no record can lie. The guest
// ends them with their clients and in time.

// Exec implements api.Aegis.
func (s *Service) Exec(ctx context.Context, ref string, spec api.ExecSpec) (string, *api.Streams, error) {
	if err := checkExec(spec); err != nil {
		return "", nil, err
	}
	r, err := s.wakened(ctx, ref, "an exec")
	if err != nil {
		return "", nil, err
	}
	p, err := r.process(ctx, spec)
	if err != nil {
		return "", nil, atBoundary(err)
	}
	if err := r.call(p.ID, func(ctx context.Context, gs *guestsession.Session) error { return gs.Start(ctx, p) }); err != nil {
		return "", nil, err
	}
	s.Log.Info("exec", "instance", r.o.id, "exec", p.ID, "tty", spec.TTY, "detach", spec.Detach)
	if spec.Detach {
		r.o.execBegun(r.b, r.session, p, nil)
		return p.ID, nil, nil
	}
	left := make(chan struct{})
	streams, err := r.streams(ctx, p.ID, spec.TTY, spec.Stdin, left)
	if err != nil {
		r.abandon(p.ID)
		return "", nil, err
	}
	r.o.execBegun(r.b, r.session, p, left)
	return p.ID, streams, nil
}

// ReattachExec implements api.Aegis.
func (s *Service) ReattachExec(ctx context.Context, ref, id string) (*api.Streams, error) {
	r, err := s.runs(ctx, ref, "an exec")
	if err != nil {
		return nil, err
	}
	if id == primary && r.unclaimed {
		return s.Attach(ctx, ref)
	}
	var p guestsession.Info
	err = r.call(id, func(ctx context.Context, gs *guestsession.Session) (err error) {
		p, err = gs.Find(ctx, id)
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case p.Lifetime != proto.Lifetime_LIFETIME_DETACHED && id == primary:
		return nil, api.Errorf(api.BadState, "the own program of instance %s was started to be left alone: only one with a terminal, or with attach, can be had again; `aegis logs` has what this one prints", r.o.id)
	case p.Lifetime != proto.Lifetime_LIFETIME_DETACHED:
		return nil, api.Errorf(api.BadState, "exec %s of instance %s is not detached: only its first client can have it", shorten(id), r.o.id)
	case p.Attached:
		return nil, api.Errorf(api.BadState, "exec %s of instance %s has a client already: end that one first", shorten(id), r.o.id)
	case id == primary:
		return r.reattachPrimary(ctx, p)
	}
	return r.streams(ctx, id, p.Terminal, p.Stdin, nil)
}

// ResizeExec implements api.Aegis.
func (s *Service) ResizeExec(ctx context.Context, ref, id string, rows, cols int) error {
	if err := checkSizeOf(rows, cols); err != nil {
		return err
	}
	r, err := s.runs(ctx, ref, "an exec")
	if err != nil {
		return err
	}
	return r.call(id, func(ctx context.Context, gs *guestsession.Session) error {
		return gs.Resize(ctx, id, uint16(rows), uint16(cols))
	})
}

// SignalExec implements api.Aegis.
func (s *Service) SignalExec(ctx context.Context, ref, id string, signal int) error {
	if signal < 1 || signal > 64 {
		return invalid("signal %d: expected 1 to 64", signal)
	}
	r, err := s.runs(ctx, ref, "an exec")
	if err != nil {
		return err
	}
	return r.call(id, func(ctx context.Context, gs *guestsession.Session) error { return gs.Signal(ctx, id, signal) })
}

// Execs implements api.Aegis.
func (s *Service) Execs(ctx context.Context, ref string) ([]api.ExecInfo, error) {
	r, err := s.runs(ctx, ref, "an exec")
	if err != nil {
		return nil, err
	}
	var all []api.ExecInfo
	err = r.call("", func(ctx context.Context, gs *guestsession.Session) error {
		list, err := gs.List(ctx)
		all = make([]api.ExecInfo, 0, len(list))
		for _, p := range list {
			// Nobody can have what has ended with its client.
			if p.Exit == nil || p.Lifetime != proto.Lifetime_LIFETIME_CLIENT {
				all = append(all, execInfo(p))
			}
		}
		return err
	})
	return all, err
}

func execInfo(p guestsession.Info) api.ExecInfo {
	i := api.ExecInfo{
		ID: p.ID, Command: p.Argv, StartedAt: p.Started, TTY: p.Terminal, Attached: p.Attached,
		Detached: p.Lifetime == proto.Lifetime_LIFETIME_DETACHED,
	}
	if p.Exit != nil {
		i.ExitCode, i.ExitSignal = &p.Exit.Code, p.Exit.Signal
	}
	return i
}

// checkExec refuses, in one line, what cannot work.
func checkExec(spec api.ExecSpec) error {
	as := api.InstanceSpec{
		Command: spec.Command, Env: spec.Env, Workdir: spec.Workdir, User: spec.User,
		Terminal: spec.Terminal, TimeoutMS: spec.TimeoutMS, Secrets: spec.Secrets, EnvSecrets: spec.EnvSecrets,
	}
	for _, check := range []func(api.InstanceSpec) error{checkCommand, checkEnv, checkPlace, checkFlags, checkTTY, checkSecrets} {
		if err := check(as); err != nil {
			return err
		}
	}
	return nil
}
