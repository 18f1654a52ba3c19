package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// adoptAll takes over what an earlier manager has left, all of it at once. It
// waits a while for the workers' answers; those that take longer keep their
// machines. When ctx ends first, that says nothing of any machine.
func (m *Manager) adoptAll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("taking machines over: %w", err)
	}
	entries, err := os.ReadDir(m.config.Dir)
	if err != nil {
		return fmt.Errorf("reading the machines' directory: %w", err)
	}
	var met []<-chan struct{}
	for _, e := range entries {
		if !e.IsDir() || !idPattern.MatchString(e.Name()) {
			continue
		}
		dir := filepath.Join(m.config.Dir, e.Name())
		r, err := readRecord(dir)
		switch {
		case exists(filepath.Join(dir, startingName)), errors.Is(err, os.ErrNotExist):
			r.ID = e.Name()
			met = append(met, m.clear(r))
		case err != nil: // not ours to delete; the operator must look
			m.config.Log.Error("a machine cannot be taken over", "machine", e.Name(), "err", err)
		default:
			met = append(met, m.adopt(r))
		}
	}
	return m.await(ctx, met)
}

// await waits until all machines are met, or for as long as Open may.
func (m *Manager) await(ctx context.Context, met []<-chan struct{}) error {
	bounded, cancel := context.WithTimeout(ctx, m.config.Patience.Adopt)
	defer cancel()
	for _, one := range met {
		select {
		case <-one:
		case <-bounded.Done():
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("taking machines over: %w", err)
			}
			return nil
		}
	}
	return nil
}

// inherit makes a machine of an earlier manager known. Until its worker is
// met, there is only what was noted to end it by.
func (m *Manager) inherit(r record, s vmm.State) *machine {
	x := m.newMachine(r)
	x.info.State = s
	x.process = answering{done: x.gone, kill: x.discard}
	close(x.settled)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.machines[r.ID] = x
	return x
}

// adopt takes one machine over, in whatever state it is: it runs, as far as
// anybody knows, because its start was finished. The channel is closed when
// more is known.
func (m *Manager) adopt(r record) <-chan struct{} {
	x := m.inherit(r, vmm.StateRunning)
	return m.meanwhile(x.meet)
}

// meanwhile does something beside all else, until the manager is closed. It
// closes the channel when do calls met or returns.
func (m *Manager) meanwhile(do func(met func())) <-chan struct{} {
	known := make(chan struct{})
	met := sync.OnceFunc(func() { close(known) })
	m.tasks.Add(1)
	go func() {
		defer m.tasks.Done()
		defer met()
		do(met)
	}()
	return known
}

// meet waits for the worker and follows its machine to the end.
func (x *machine) meet(met func()) {
	a, err := x.answer()
	switch {
	case err == nil:
		defer a.leave()
		x.setProcess(a.process)
		x.take(a.first)
		x.manager.config.Log.Info("machine taken over", "machine", x.id, "state", a.first.State, "worker", a.first.WorkerPid)
		met()
		if x.stack != "" && x.manager.config.Stacks != nil {
			x.manager.tasks.Go(x.serveStack)
		}
		x.follow(a.reports)
	case x.manager.ctx.Err() != nil: // the manager goes, the machine stays
	default:
		x.bury(err, met)
	}
}

// answer attaches to the worker, however slow that is, but not for ever: one
// that is silent for too long holds a machine that nobody can use.
func (x *machine) answer() (a attached, err error) {
	patience, log := x.manager.config.Patience, x.manager.config.Log
	ctx, cancel := context.WithTimeout(x.manager.ctx, patience.Silence)
	defer cancel()
	defer time.AfterFunc(patience.Adopt, func() {
		log.Warn("a worker does not answer yet", "machine", x.id, "is killed after", patience.Silence)
	}).Stop()
	known := insist(ctx, func() bool {
		a, err = x.attach(ctx)
		return err == nil || errors.Is(err, worker.ErrGone)
	})
	if !known {
		err = fmt.Errorf("its worker has not answered for %s: %w", patience.Silence, err)
	}
	return a, err
}

// attached is a worker whose reports are followed until leave is called.
type attached struct {
	reports <-chan worker.Report
	first   worker.Report
	process Process
	leave   context.CancelFunc
}

// attach watches a worker and holds its process. That the worker answers once
// more after its number was taken proves that the number is still its own. An
// error says that the worker is gone only where it wraps ErrGone.
func (x *machine) attach(ctx context.Context) (a attached, err error) {
	watching, leave := context.WithCancel(x.manager.ctx)
	a.leave = leave
	defer func() {
		if err != nil {
			leave()
			release(a.process)
		}
	}()
	if a.reports, err = x.client.Watch(watching); err != nil {
		return a, err
	}
	var ok bool
	select {
	case a.first, ok = <-a.reports:
	case <-ctx.Done():
	}
	switch {
	case !ok && ctx.Err() != nil:
		return a, ctx.Err()
	case !ok:
		return a, fmt.Errorf("its worker has hung up: %w", worker.ErrGone)
	case a.first.WorkerPid == os.Getpid(), !sendersAreKnown:
		a.process = inThisProcess(x)
		return a, nil
	}
	if a.process, err = findProcess(a.first.WorkerPid, nil); err != nil {
		return a, err
	}
	again, err := x.client.Info(ctx)
	if err != nil {
		return a, fmt.Errorf("asking its worker again: %w", err)
	}
	if again.WorkerPid != a.first.WorkerPid {
		return a, fmt.Errorf("its worker is process %d and %d at once", a.first.WorkerPid, again.WorkerPid)
	}
	return a, nil
}

// inThisProcess is a worker that another manager of this process has
// launched, or one that cannot be told by a number: its watch ends with it.
func inThisProcess(x *machine) Process {
	closed := make(chan struct{})
	close(closed)
	return answering{done: closed, kill: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), discardGrace)
		defer cancel()
		if err := x.client.Stop(ctx); err != nil && !errors.Is(err, worker.ErrGone) {
			return err
		}
		return nil
	}}
}
