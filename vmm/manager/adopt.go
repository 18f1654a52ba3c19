package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xfeldman/aegisvm/vmm/worker"
)

// adoptGrace bounds how long one worker may take to answer a new manager.
const adoptGrace = 10 * time.Second

// adoptAll takes over what an earlier manager has left.
func (m *Manager) adoptAll(ctx context.Context) error {
	entries, err := os.ReadDir(m.config.Dir)
	if err != nil {
		return fmt.Errorf("reading the machines' directory: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !idPattern.MatchString(e.Name()) {
			continue
		}
		dir := filepath.Join(m.config.Dir, e.Name())
		r, err := readRecord(dir)
		if exists(filepath.Join(dir, startingName)) || errors.Is(err, os.ErrNotExist) {
			if err := m.discard(ctx, e.Name(), dir); err != nil {
				return err
			}
			continue
		}
		if err != nil { // not ours to delete; the operator must look
			m.config.Log.Error("a machine cannot be taken over", "machine", e.Name(), "err", err)
			continue
		}
		m.adopt(ctx, r)
	}
	return nil
}

// adopt takes one machine over, in whatever state it is.
func (m *Manager) adopt(ctx context.Context, r record) {
	x := m.newMachine(r)
	close(x.settled)
	m.mu.Lock()
	m.machines[r.ID] = x
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, adoptGrace)
	defer cancel()
	reports, first, err := x.attach(ctx)
	if err != nil {
		x.bury(err)
		return
	}
	x.take(first)
	m.config.Log.Info("machine taken over", "machine", x.id, "state", first.State, "worker", first.WorkerPid)
	m.tasks.Add(1)
	go func() {
		defer m.tasks.Done()
		x.follow(reports)
	}()
}

// attach watches a worker and holds its process. That the worker answers once
// more after its number was taken proves that the number is still its own.
func (x *machine) attach(ctx context.Context) (<-chan worker.Report, worker.Report, error) {
	reports, err := x.client.Watch(x.manager.ctx)
	if err != nil {
		return nil, worker.Report{}, err
	}
	var first worker.Report
	var ok bool
	select {
	case first, ok = <-reports:
	case <-ctx.Done():
	}
	if !ok {
		return nil, first, fmt.Errorf("its worker does not answer: %w", worker.ErrGone)
	}
	if first.WorkerPid == os.Getpid() || first.WorkerPid == 0 {
		x.process = inThisProcess(x)
		return reports, first, nil
	}
	x.process = findProcess(first.WorkerPid, nil)
	if again, err := x.client.Info(ctx); err == nil && again.WorkerPid != first.WorkerPid {
		return nil, first, fmt.Errorf("its worker is process %d and %d at once", first.WorkerPid, again.WorkerPid)
	}
	return reports, first, nil
}

// inThisProcess is a worker that another manager of this process has
// launched, or one that cannot be told by a number: its watch ends with it.
func inThisProcess(x *machine) Process {
	closed := make(chan struct{})
	close(closed)
	return answering{done: closed, kill: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), adoptGrace)
		defer cancel()
		if err := x.client.Stop(ctx); err != nil && !errors.Is(err, worker.ErrGone) {
			return err
		}
		return nil
	}}
}

// discard clears away a start that was not finished: nobody was told of the
// machine.
func (m *Manager) discard(ctx context.Context, id, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, adoptGrace)
	defer cancel()
	if err := m.config.Launcher.Discard(ctx, id, dir); err != nil {
		return fmt.Errorf("clearing away machine %q: %w", id, err)
	}
	x := m.newMachine(record{ID: id})
	if reports, _, err := x.attach(ctx); err == nil {
		if err := x.process.Kill(); err != nil {
			return fmt.Errorf("ending the worker of machine %q: %w", id, err)
		}
		for range reports { // until it is gone
		}
		if err := wait(ctx, x.process); err != nil {
			return fmt.Errorf("waiting for the worker of machine %q: %w", id, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clearing away machine %q: %w", id, err)
	}
	m.config.Log.Info("unfinished start cleared away", "machine", id)
	return nil
}
