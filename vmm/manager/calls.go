package manager

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// Connect dials a port of a machine's guest.
func (m *Manager) Connect(ctx context.Context, id string, port uint32) (*os.File, error) {
	x, err := m.running(id)
	if err != nil {
		return nil, err
	}
	f, err := x.client.Connect(ctx, port)
	if err != nil {
		return nil, x.failed(ctx, fmt.Sprintf("connecting to port %d of", port), err)
	}
	return f, nil
}

// Dialer gives a socket over which a port of a machine's guest is dialled.
func (m *Manager) Dialer(ctx context.Context, id string, port uint32) (*os.File, error) {
	x, err := m.running(id)
	if err != nil {
		return nil, err
	}
	f, err := x.client.Dialer(ctx, port)
	if err != nil {
		return nil, x.failed(ctx, fmt.Sprintf("asking for a dialer of port %d of", port), err)
	}
	return f, nil
}

// Pause stops a machine's processors.
func (m *Manager) Pause(ctx context.Context, id string) error {
	return m.act(ctx, id, "pausing", worker.Client.Pause)
}

// Resume lets them go on.
func (m *Manager) Resume(ctx context.Context, id string) error {
	return m.act(ctx, id, "resuming", worker.Client.Resume)
}

func (m *Manager) act(ctx context.Context, id, doing string, do func(worker.Client, context.Context) error) error {
	x, err := m.running(id)
	if err != nil {
		return err
	}
	if err := do(x.client, ctx); err != nil {
		return x.failed(ctx, doing, err)
	}
	x.noted(ctx)
	return nil
}

// running is a machine whose guest is ready.
func (m *Manager) running(id string) (*machine, error) {
	x, err := m.find(id)
	if err != nil {
		return nil, err
	}
	switch i := x.current(); i.State {
	case vmm.StateStarting:
		return nil, api.Errorf(api.BadState, "machine %q is starting: wait until it runs", id)
	case vmm.StateEnded:
		return nil, api.Errorf(api.BadState, "machine %q: %w (%s)", id, vmm.ErrEnded, exitWords(i.Exit))
	}
	return x, nil
}

// Stop pulls the plug of a machine and waits until its worker is gone.
func (m *Manager) Stop(ctx context.Context, id string) error {
	x, err := m.find(id)
	if err != nil {
		return err
	}
	return x.stop(ctx)
}

// Shutdown asks the guest of a machine to leave in order. It returns at once;
// Watch tells when it has left. A start that is under way is undone: there is
// nobody yet to ask.
func (m *Manager) Shutdown(ctx context.Context, id string) error {
	if x, err := m.find(id); err == nil && x.current().State == vmm.StateStarting {
		x.abort(errStopped)
		return nil
	}
	x, err := m.running(id)
	if err != nil {
		return err
	}
	if err := x.client.Shutdown(ctx); err != nil {
		return x.failed(ctx, "shutting down", err)
	}
	return nil
}

// Remove forgets an ended machine and deletes its directory.
func (m *Manager) Remove(ctx context.Context, id string) error {
	x, err := m.find(id)
	if err != nil {
		return err
	}
	if s := x.current().State; s != vmm.StateEnded {
		return api.Errorf(api.BadState, "machine %q is %s: stop it before it is removed", id, s)
	}
	if err := x.waitGone(ctx); err != nil {
		return err
	}
	return m.forget(x)
}

// forget deletes what is left of a machine whose worker is gone.
func (m *Manager) forget(x *machine) error {
	if err := os.RemoveAll(x.dir); err != nil {
		return api.Errorf(api.Internal, "removing machine %q: %w", x.id, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.machines[x.id] == x {
		delete(m.machines, x.id)
	}
	return nil
}

func exitWords(e *vmm.Exit) string {
	if e == nil {
		return "no record"
	}
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// asAPI gives an error of ours a code; those that have one keep it.
func asAPI(ctx context.Context, err error) *api.Error {
	if _, ok := errors.AsType[*api.Error](err); !ok && ctx.Err() != nil {
		return api.Errorf(api.Unavailable, "%w", err)
	}
	return api.AsError(err)
}
