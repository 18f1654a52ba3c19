package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// way is where what comes to a port is carried.
type way struct {
	Port
	limits  Limits
	log     *slog.Logger
	backend *backend
}

// acceptPause lets connections end when there are no descriptors left.
const acceptPause = 50 * time.Millisecond

// listen carries connections until ctx ends, with them.
func (w way) listen(ctx context.Context, l *net.TCPListener) {
	var all sync.WaitGroup
	defer all.Wait()
	turns := make(chan struct{}, w.limits.Connections)
	for {
		c, err := l.AcceptTCP()
		switch {
		case err != nil && (lasting(err) || ctx.Err() != nil):
			return
		case err != nil:
			w.log.Warn("accepting a connection", "error", err)
			if !wait(ctx, acceptPause) {
				return
			}
			continue
		}
		select {
		case turns <- struct{}{}:
			all.Go(func() {
				defer func() { <-turns }()
				w.carry(ctx, c)
			})
		default:
			w.refuse(c, api.Errorf(api.LimitExceeded, "port %d has %d connections already", w.GuestPort, cap(turns)))
		}
	}
}

// carry joins a connection with the program in the guest. Neither is looked
// into.
func (w way) carry(ctx context.Context, c *net.TCPConn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	guest, release, err := w.backend.connect(ctx, w.Port)
	if err != nil {
		w.log.Warn("a connection is refused", "error", err)
		w.refuse(c, err)
		return
	}
	defer release()
	defer context.AfterFunc(ctx, func() { guest.Close() })()
	join(c, guest)
}

// refuse ends a connection that leads nowhere: who speaks HTTP is told why,
// anybody else has it reset, as where nobody listens.
func (w way) refuse(c *net.TCPConn, why error) {
	defer c.Close()
	if w.Protocol != api.ProtocolHTTP {
		c.SetLinger(0)
		return
	}
	status := "503 Service Unavailable"
	if errors.Is(why, forward.ErrRefused) {
		status = "502 Bad Gateway"
	}
	body := "aegisvm: " + strings.TrimSpace(why.Error()) + "\n"
	c.SetDeadline(time.Now().Add(farewell))
	// An answer that comes before the request is none to many clients.
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nRetry-After: 3\r\nConnection: close\r\n\r\n%s", status, len(body), body)
	c.CloseWrite()
	// A close with unread bytes would be a reset, and the answer lost.
	io.CopyN(io.Discard, c, maxUnread)
}

// A client that is refused may take so long to read why, and may have sent so
// much.
const (
	farewell  = 2 * time.Second
	maxUnread = 1 << 20
)
