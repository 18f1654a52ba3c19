package manager

import (
	"context"
	"errors"
	"fmt"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// errUnfinished is why a machine ends whose start an earlier manager began.
var errUnfinished = errors.New("its start was not finished: the machine manager was restarted")

// clear clears away a start that was not finished: nobody was told of the
// machine. Where that fails, it keeps the machine's name and user and is
// tried again; all others go on. The channel is closed when either is known.
func (m *Manager) clear(r record) <-chan struct{} {
	x := m.inherit(r, vmm.StateStarting)
	return m.meanwhile(func(met func()) {
		cleared := insist(m.ctx, func() bool {
			err := x.clearAway()
			if err != nil {
				m.config.Log.Warn("clearing away an unfinished start", "machine", x.id, "err", err)
				met()
			}
			return err == nil
		})
		if cleared {
			x.notStarted(errUnfinished)
			m.config.Log.Info("unfinished start cleared away", "machine", x.id)
		}
	})
}

// clearAway ends the worker, by its note and by its socket, and forgets it.
func (x *machine) clearAway() error {
	if err := x.discard(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.manager.ctx, discardGrace)
	defer cancel()
	a, err := x.attach(ctx)
	switch {
	case err == nil:
		defer a.leave()
		if err := a.end(ctx); err != nil {
			return fmt.Errorf("ending the worker: %w", err)
		}
	case !errors.Is(err, worker.ErrGone):
		return err
	}
	return x.manager.forget(x)
}

// end kills the worker and waits until it is gone.
func (a attached) end(ctx context.Context) error {
	if err := a.process.Kill(); err != nil {
		return err
	}
	for {
		select {
		case _, more := <-a.reports:
			if !more {
				return wait(ctx, a.process)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
