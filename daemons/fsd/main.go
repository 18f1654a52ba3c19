// Command aegis-fsd answers one request for a workspace, and serves one folder
// to one guest if that is it: see packages workspace/attend and workspace. It
// is started by aegisd, or by systemd for a connection of aegisd's, with the
// connection as descriptor 3, never by hand.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// control is the descriptor of the connection; systemd passes it there, too.
const control = 3

func main() {
	o := options{}
	flag.StringVar(&o.state, "state", "", "folder for what the next server of a guest must know")
	flag.StringVar(&o.named, "named", "", "folder of the workspaces with names")
	flag.StringVar(&o.apart, "apart", "", "folder with aegisd's state, which is no workspace")
	flag.StringVar(&o.peer, "peer", "", "serve every user, and let this one ask (default: our own user is served and asks)")
	flag.Parse()
	if o.state == "" || o.named == "" || o.apart == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "aegis-fsd: it is started by aegisd or systemd: start an instance with --workspace")
		os.Exit(2)
	}
	// A guest's calls are short and come one by one: a second thread that
	// looks for work costs more than it does.
	runtime.GOMAXPROCS(1)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	if err := attendTo(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "aegis-fsd:", err)
		os.Exit(1)
	}
}

type options struct{ state, named, apart, peer string }
