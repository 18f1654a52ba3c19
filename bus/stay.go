package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// The pauses between attempts to reach a bus that is lost.
const (
	firstRedial = 100 * time.Millisecond
	maxRedial   = 5 * time.Second
)

// Stay keeps a service on a bus: it dials, calls serve, and when the
// connection was lost dials and serves anew. It returns when ctx has ended,
// with nil, or when serve fails on a connection that still stands.
func Stay(ctx context.Context, address string, log *slog.Logger, serve func(context.Context, *Conn) error) error {
	pause := firstRedial
	for {
		served, err := serveOnce(ctx, address, serve)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, errLost):
			return err
		case served:
			pause = firstRedial
		}
		log.Warn("the message bus is lost", "err", err, "retry", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(2*pause, maxRedial)
	}
}

var errLost = errors.New("connection lost")

// serveOnce serves on one connection; its error is errLost when that ended.
func serveOnce(ctx context.Context, address string, serve func(context.Context, *Conn) error) (served bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := Dial(ctx, address)
	if err != nil {
		return false, errors.Join(errLost, err)
	}
	defer conn.Close()
	err = serve(ctx, conn)
	select {
	case <-conn.Done():
		return true, errors.Join(errLost, err)
	default:
		return true, err
	}
}
