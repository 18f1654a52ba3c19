// Command aegis-netd gives the machines of this host networks and serves them
// as org.aegisvm.Network1 on the system bus. It is the only program with
// CAP_NET_ADMIN, and parses nothing that a guest sent. It may be killed at any
// time: links and rules stay, and the next netd goes on with them.
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
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/netbus"
)

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "aegis-netd: %v\n", err)
		os.Exit(2)
	case o.version:
		fmt.Println("aegis-netd", api.Version)
		return
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, log, level); err != nil {
		log.Error("aegis-netd failed", "error", err)
		stop()
		os.Exit(1)
	}
}

// run serves the network until ctx ends, on a new connection whenever the bus
// was lost.
func run(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) error {
	network, err := host.Open(ctx, host.Options{Dir: o.dir, Pools: o.pools, DNS: o.dns, Log: log})
	if err != nil {
		return err
	}
	defer network.Close()
	service := bus.Service{Name: "aegis-netd", Address: o.bus, Log: log, Level: level}
	return service.Stay(ctx, func(ctx context.Context, conn *bus.Conn) error {
		return netbus.Serve(ctx, conn, network, o.callers, service.Ready)
	})
}
