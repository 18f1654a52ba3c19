// Command aegis-imaged keeps images and disks and serves them as
// org.aegisvm.Image1 on the system bus. It is the only program that parses
// images, and the one that speaks to registries; it has no capability and
// executes nothing of an image.
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
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/registry"
)

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "aegis-imaged: %v\n", err)
		os.Exit(2)
	case o.version:
		fmt.Println("aegis-imaged", api.Version)
		return
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, log, level); err != nil {
		log.Error("aegis-imaged failed", "error", err)
		stop()
		os.Exit(1)
	}
}

// run serves the store until ctx ends, on a new connection whenever the bus
// was lost.
func run(ctx context.Context, o options, log *slog.Logger, level *slog.LevelVar) error {
	store, err := image.Open(o.state, image.Options{
		Base: base(o.share), Log: log, Registry: registry.Options{Config: o.registries},
	})
	if err != nil {
		return err
	}
	defer store.Close()
	service := bus.Service{Name: "aegis-imaged", Address: o.bus, Log: log, Level: level}
	return service.Stay(ctx, func(ctx context.Context, conn *bus.Conn) error {
		return imagebus.Serve(ctx, conn, store, o.client, service.Ready)
	})
}
