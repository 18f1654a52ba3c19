// Command aegisd keeps instances: it answers the REST socket and, on a host
// with systemd, the bus name org.aegisvm.Aegis1. Killing it at any instant
// loses nothing and stops no machine.
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
	"github.com/xfeldman/aegisvm/daemons/aegisd/journal"
)

func main() {
	opts, err := parse(os.Args[1:], os.Getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "aegisd: %v\n", err)
		os.Exit(2)
	case opts.showVersion:
		fmt.Println("aegisd", api.Version)
		return
	}
	level := &slog.LevelVar{}
	level.Set(opts.logLevel)
	log := slog.New(journal.NewHandler(os.Stderr, level))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, opts, log, level); err != nil {
		log.Error("aegisd failed", "code", api.CodeOf(err), "error", err)
		stop()
		os.Exit(1)
	}
}
