package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"

	ttrpclog "github.com/containerd/log"
	"golang.org/x/sync/errgroup"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// run is aegisd from the lock to the last goodbye. The database lock comes
// first: it keeps a second aegisd from touching anything.
func run(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) error {
	frugal()
	withoutCoreDumps(log)
	if err := os.MkdirAll(o.state, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	db, err := store.Open(ctx, filepath.Join(o.state, "aegis.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	removePID, err := writePID(o)
	if err != nil {
		return err
	}
	defer removePID()
	l, err := listen(o)
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := compose(ctx, o, log, level)
	if err != nil {
		return err
	}
	defer p.close()
	printed := logs.New(logs.Config{Dir: filepath.Join(o.state, "logs"), Log: log})
	defer printed.Close()
	svc, err := instance.New(ctx, instance.Config{
		Workspaces: p.workspaces, Router: p.router, Network: p.network, NoNetwork: p.noNetwork,
		Records: db, Images: p.images, Machines: p.machines, Log: log, Secrets: newSecrets(ctx, o, db, log),
		Version: api.Version, Composition: p.name, Kernel: p.kernel, Logs: printed,
		Timings: instance.Timings{Ready: o.ready},
	})
	if err != nil {
		return err
	}
	defer svc.Close()
	p.awaken(svc)
	return serve(ctx, svc, p, l, log)
}

// serve answers on every transport until stop ends or one of them fails.
func serve(stop context.Context, svc *instance.Service, p parts, l net.Listener, log *slog.Logger) error {
	group, ctx := errgroup.WithContext(stop)
	ready := func() {
		log.Info("ready", "composition", p.name, "version", api.Version)
		tell(log, bus.NotifyReady)
	}
	waker, err := wakerInterface(svc)
	if err != nil {
		return err
	}
	group.Go(func() error { return restapi.NewServer(svc, log).Serve(ctx, l) })
	if p.bus == nil {
		ready()
	} else {
		group.Go(func() error { return aegisbus.Serve(ctx, p.bus, svc, api.Version, log, ready, waker) })
	}
	group.Go(func() error {
		<-ctx.Done()
		tell(log, bus.NotifyStopping)
		return nil
	})
	return unlessStopped(stop, group.Wait(), log)
}

// unlessStopped forgives what fails once we have been told to end: the bus
// connection ends with us, and a server may see that before it sees why.
func unlessStopped(stop context.Context, err error, log *slog.Logger) error {
	if stop.Err() == nil || err == nil {
		return err
	}
	log.Debug("ended with an error", "error", err)
	return nil
}

// tell tells whoever started us. It may have stopped listening: `aegis up`
// waits for the start only.
func tell(log *slog.Logger, notify func() error) {
	if err := notify(); err != nil {
		log.Debug("notification not delivered", "error", err)
	}
}

// frugal keeps a daemon that mostly waits small: garbage is collected at half
// of Go's usual slack. What the RPC library logs of guests that hang up is
// noise that a guest could make at will.
func frugal() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	ttrpclog.L.Logger.SetOutput(io.Discard)
}
