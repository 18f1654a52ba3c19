package workspaces

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// longest is how long is waited at most before something is tried again.
const longest = time.Second

// Guest is the machine that is served.
type Guest struct {
	Machine string
	// Dial gives a new stream of the guest.
	Dial func(context.Context) (*os.File, error)
	// Served tells that an earlier aegisd has served it already, so that servers
	// which cannot be reached are waited for.
	Served bool
}

// Serve runs the server of a guest's workspace until ctx ends, and returns
// when it has gone. A server that dies is replaced, and the next one goes on
// where it was; an error is one that will not go away.
func (k *Keeper) Serve(ctx context.Context, p Place, g Guest) error {
	for backoff := 10 * time.Millisecond; ; backoff = min(2*backoff, longest) {
		began := time.Now()
		err := k.serveOnce(ctx, p, &g)
		switch {
		case ctx.Err() != nil:
			return nil
		case lasting(err, g.Served):
			return err
		}
		k.Log.Warn("the server of a workspace has ended and is replaced", "machine", g.Machine, "error", err)
		if time.Since(began) > longest {
			backoff = 10 * time.Millisecond
		}
		if !pause(ctx, backoff) {
			return nil
		}
	}
}

// lasting tells an error that stays from one that may go: of a guest that was
// served already, only what is wrong with the folder stays.
func lasting(err error, served bool) bool {
	switch api.CodeOf(err) {
	case api.NotFound, api.Denied, api.InvalidArgument:
		return true
	case api.Unavailable:
		return !served
	}
	return false
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var errEnded = errors.New("it has ended")

// serveOnce has one server, and feeds it streams until it ends.
func (k *Keeper) serveOnce(ctx context.Context, p Place, g *Guest) error {
	s, err := k.Connect(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		s.CloseWrite()
		s.SetReadDeadline(time.Now().Add(farewell))
	})
	defer stop()
	_, f, err := door.Ask(s.UnixConn, door.Request{Verb: door.Serve, Owner: p.Owner, Folder: p.Folder, Machine: g.Machine}, nil)
	if f != nil {
		f.Close()
	}
	if err != nil {
		return fmt.Errorf("serving the workspace: %w", err)
	}
	g.Served = true
	feed(ctx, s.UnixConn, g.Dial)
	return errEnded
}

// plenty is how many streams may be used up at once: more than a mount needs,
// fewer than what a guest could ask for without end.
const plenty = 4

// feed passes a stream, and another one whenever the server asks for it.
func feed(ctx context.Context, server *net.UnixConn, dial func(context.Context) (*os.File, error)) {
	quick := 0
	for backoff := 10 * time.Millisecond; ctx.Err() == nil; {
		stream, err := dial(ctx)
		if err != nil {
			if !pause(ctx, backoff) {
				return
			}
			backoff = min(2*backoff, longest)
			continue
		}
		began := time.Now()
		_, _, err = server.WriteMsgUnix([]byte{1}, unix.UnixRights(int(stream.Fd())), nil)
		stream.Close()
		if err != nil {
			return
		}
		if n, err := server.Read(make([]byte, 1)); err != nil || n == 0 {
			return
		}
		switch quick++; {
		case time.Since(began) > longest:
			backoff, quick = 10*time.Millisecond, 0
		case quick < plenty:
		case !pause(ctx, backoff):
			return
		default:
			backoff = min(2*backoff, longest)
		}
	}
}
