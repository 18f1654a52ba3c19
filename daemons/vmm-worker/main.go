// Command aegis-vmm-worker holds one machine: see package worker. It is
// started by aegis-vmmd or aegisd with its plan and its descriptors, never by
// hand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

func main() {
	// What passes between machine and host takes turns: a second thread that
	// looks for work costs more than it does.
	runtime.GOMAXPROCS(1)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level()}))
	err := run(log)
	if errors.Is(err, io.EOF) {
		os.Exit(0) // the manager went before it said what to do
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "aegis-vmm-worker:", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	plan, files, err := worker.Inherit()
	if err != nil {
		return err
	}
	log = log.With("component", "worker", "machine", plan.ID)
	if plan.Jail != nil {
		err := worker.Imprison(plan, log) // comes back only when it failed
		return errors.Join(err, worker.Fail(plan, files, err))
	}
	driver, err := drivers.New(drivers.Options{
		Name: plan.Driver, Binary: plan.Binary, Accel: plan.Accel, ClockKHz: plan.ClockKHz, Place: plan.Place(),
	})
	if err != nil {
		return errors.Join(err, worker.Fail(plan, files, err))
	}
	// A scope's stop sends SIGWINCH, which monitors ignore, so that the guest
	// can be asked before its monitor is.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGWINCH)
	defer stop()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	return worker.Run(ctx, worker.Config{
		Plan: plan, Files: files, Driver: driver, Shutdown: poweroff, Log: log, Network: newNetwork, Confine: worker.Confine,
	})
}

func level() slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(os.Getenv("AEGIS_LOG"))) != nil {
		return slog.LevelInfo
	}
	return l
}
