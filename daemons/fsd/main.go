// Command aegis-fsd serves one folder to one guest: see package workspace. It
// is started by aegisd, with the rights of the instance's owner and the socket
// that the guest's streams come over, never by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// control is the descriptor of the socket that streams come over.
const control = 3

// exitCannot is the exit code when the folder cannot be served at all; after
// any other one it is worth trying again.
const exitCannot = 3

// errCannot is wrapped by the errors of exitCannot.
var errCannot = errors.New("cannot serve the workspace")

func main() {
	root := flag.String("root", "", "the folder to serve")
	state := flag.String("state", "", "folder for what the next server of this guest must know")
	flag.Parse()
	if *root == "" || *state == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "aegis-fsd: it is started by aegisd: start an instance with --workspace")
		os.Exit(2)
	}
	// A guest's calls are short and come one by one: a second thread that
	// looks for work costs more than it does.
	runtime.GOMAXPROCS(1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	err := serve(ctx, *root, *state, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "aegis-fsd:", err)
	if errors.Is(err, errCannot) {
		os.Exit(exitCannot)
	}
	os.Exit(1)
}
