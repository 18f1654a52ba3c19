// Command aegis-imaged keeps images and disks and serves them as
// org.aegisvm.Image1 on the system bus. It is the only program that parses
// images; it has no capability, no network, and executes nothing of an image.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
)

// redial is how long a lost bus is left alone.
const redial = time.Second

func main() {
	address := flag.String("bus", "system", "D-Bus `address` to serve on")
	state := flag.String("state", "/var/lib/aegis/imaged", "`directory` of images and disks")
	share := flag.String("share", "", "`directory` with the base image (default beside the program, else /usr/share/aegisvm)")
	client := flag.String("client", "aegis", "`user` who may call, besides root")
	flag.Parse()
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	store, err := image.Open(*state, image.Options{Base: base(*share), Log: log})
	if err != nil {
		log.Error("aegis-imaged cannot start", "error", err)
		os.Exit(1)
	}
	defer store.Close()
	for ctx.Err() == nil {
		if err := serve(ctx, *address, store, *client, level); err != nil {
			log.Error("not on the bus", "error", err, "retry", redial)
		}
		select {
		case <-time.After(redial):
		case <-ctx.Done():
		}
	}
}

// serve serves the store until ctx or the bus ends.
func serve(ctx context.Context, address string, store image.Store, client string, level *slog.LevelVar) error {
	conn, err := bus.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.ExportLogControl("aegis-imaged", level); err != nil {
		return err
	}
	return imagebus.Serve(ctx, conn, store, client, func() { bus.NotifyReady() })
}

// base is the OCI layout of the base image.
func base(share string) string {
	if exe, err := os.Executable(); share == "" && err == nil {
		share = filepath.Join(filepath.Dir(exe), "../share/aegisvm")
	}
	if _, err := os.Stat(share); err != nil {
		share = "/usr/share/aegisvm"
	}
	return filepath.Join(share, "base")
}
