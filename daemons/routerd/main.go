// Command aegis-routerd keeps the exposed ports of this host open and carries
// their connections to guests, and answers guests who ask for names. It opens
// its ports before it has a bus, looks into no byte that it carries but for those
// of its HTTP front and guests' questions, and may be killed at any time: systemd
// keeps its sockets.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/dns"
	"github.com/xfeldman/aegisvm/router/fdstore"
	"github.com/xfeldman/aegisvm/router/routerbus"
)

func main() {
	o, err := parse(os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "aegis-routerd: %v\n", err)
		os.Exit(2)
	case o.version:
		fmt.Println("aegis-routerd", api.Version)
		return
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, log, level); err != nil {
		log.Error("aegis-routerd failed", "error", err)
		stop()
		os.Exit(1)
	}
}

// run opens the ports, then serves the bus, on a new connection whenever it
// was lost.
func run(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) error {
	kept := fdstore.Take()
	asked := dns.TakeKept(kept)
	waker := routerbus.NewWaker(o.bus)
	defer waker.Close()
	ports, err := router.Open(router.Config{
		Dir: o.state, Waker: waker, Keeper: fdstore.Open(), FrontConfig: takeFront(kept), Kept: kept, Log: log,
		Limits: router.Limits{Ready: o.ready},
	})
	if err != nil {
		return err
	}
	defer ports.Close()
	names := newNames()
	front := dns.NewFront(dns.FrontConfig{
		Options: dns.Options{Names: names, Upstreams: dns.Follow(ctx, o.resolvConf, log).Upstreams, Log: log},
		Keeper:  fdstore.Open(), Kept: asked,
	})
	defer front.Close()
	uids, err := bus.Users(o.client)
	if err != nil {
		return err
	}
	service := bus.Service{Name: "aegis-routerd", Address: o.bus, Log: log, Level: level}
	return service.Stay(ctx, func(ctx context.Context, conn *bus.Conn) error {
		if err := names.follow(ctx, conn, front); err != nil {
			return err
		}
		return routerbus.Serve(ctx, conn, ports, uids, bus.NotifyReady)
	})
}
