// Command aegis-vmmd puts the machines of this host on the system bus as
// org.aegisvm.Vmm1. It may be killed at any time: machines run on in their
// scopes, and the next vmmd takes them over.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/netd/netbus"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/vmmbus"
)

func main() {
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2) // flag has said why
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "aegis-vmmd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	uids, err := bus.Users(o.user)
	if err != nil {
		return err
	}
	driver, d, err := drivers.Choose(ctx, os.Getenv)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = bus.NotifyStopping() })()
	return bus.Stay(ctx, o.bus, log, func(ctx context.Context, conn *bus.Conn) error {
		scopes := manager.NewScopes(conn, o.worker)
		m, err := manager.Open(ctx, manager.Config{
			Dir: o.dir, Keep: o.state, Guest: o.guest, Driver: d, Options: driver, Launcher: scopes, Taps: netbus.NewClient(conn),
			UIDBase: uint32(o.uidBase), UIDs: uint32(o.uids), Log: log,
		})
		if err != nil {
			return err
		}
		defer m.Close()
		if err := conn.ExportLogControl("aegis-vmmd", level); err != nil {
			return err
		}
		return together(ctx,
			func(ctx context.Context) error { return scopes.HandleStops(ctx, m) },
			func(ctx context.Context) error { return vmmbus.Serve(ctx, conn, m, uids, bus.NotifyReady) })
	})
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("aegis-vmmd", flag.ContinueOnError)
	o.define(f)
	if err := f.Parse(args); err != nil {
		return o, err
	}
	return o, o.check(f)
}
