// Package front owns the HTTP front of this host: one port for all instances,
// which reads whose a request is from a header or the name of the host, and
// carries it to the program. It knows no instance and opens no port; who finds
// and wakes them is an Instances, which the router is.
package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// Target is the program that a request is for.
type Target struct {
	// Instance is an id, Port a port of its guest.
	Instance string
	Port     int
}

// Instances leads to programs. Errors are *api.Error, or wrap
// forward.ErrRefused where nobody listens.
type Instances interface {
	// Find finds an exposed port by an instance's name or id and a port of its
	// guest. Port 0 is the lowest of its ports for HTTP, and name "" the only
	// instance that has one. NotFound says that there is none, BadState that it
	// is off, InvalidArgument that the request does not say which.
	Find(name string, port int) (Target, error)
	// Connect wakes the instance if need be and connects to the program.
	Connect(ctx context.Context, t Target) (net.Conn, error)
}

// Limits of what strangers can make a front do.
const (
	// maxConnections is how many it has at once; more wait to be accepted.
	maxConnections = 4096
	// maxHeader is what the header of a request may have, in bytes, and
	// headerTime how long it may take.
	maxHeader  = 64 << 10
	headerTime = 20 * time.Second
	// idleTime ends a connection without requests.
	idleTime = 2 * time.Minute
	// maxStreams is how many requests one connection of HTTP/2 has at once.
	maxStreams = 250
)

// Front is the HTTP front.
type Front struct {
	instances Instances
	log       *slog.Logger
	ways      ways
	active    sync.WaitGroup
}

// New makes a front; Serve opens it.
func New(i Instances, log *slog.Logger) *Front {
	f := &Front{instances: i, log: log}
	f.ways = newWays(f.dial)
	return f
}

// Serve serves l until ctx ends, with all connections, and closes it. An error
// is why it ended before.
func (f *Front) Serve(ctx context.Context, l net.Listener) error {
	s := &http.Server{
		Handler: f, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		BaseContext: func(net.Listener) context.Context { return ctx },
		// What it says is about clients that hang up.
		ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	defer context.AfterFunc(ctx, func() { s.Close() })()
	err := s.Serve(netutil.LimitListener(l, maxConnections))
	s.Close()
	f.active.Wait()
	f.ways.close()
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// ServeHTTP carries one request.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.active.Add(1)
	defer f.active.Done()
	if err := checkHost(r); err != nil {
		f.refuse(w, r, err)
		return
	}
	t, err := f.find(r)
	if err != nil {
		f.refuse(w, r, err)
		return
	}
	f.ways.proxy(t, r.ProtoMajor, f.refuse).ServeHTTP(w, r)
}
