package manager

import (
	"context"
	"log/slog"
	"os"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// InProcess runs workers as goroutines of this process, for tests and for
// drivers without a process: the same worker, socket and records, but no
// jail, and its machines do not outlive the process.
type InProcess struct {
	Driver vmm.Driver
	// Network is that of worker.Config.
	Network func(worker.Link, *slog.Logger) (worker.Network, error)
}

// Launch implements Launcher.
func (l InProcess) Launch(_ context.Context, p worker.Plan, f worker.Files, log *os.File) (Process, error) {
	p.Jail = nil
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	lines := slog.New(slog.DiscardHandler)
	go func() { // ends with the machine
		defer close(done)
		defer cancel()
		_ = worker.Run(ctx, worker.Config{Plan: p, Files: f, Driver: l.Driver, Network: l.Network, Log: lines})
	}()
	return answering{done: done, kill: func() error { cancel(); return nil }}, nil
}

// Discard has nothing to do.
func (l InProcess) Discard(context.Context, string, string) error { return nil }
