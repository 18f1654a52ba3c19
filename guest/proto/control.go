package proto

import (
	"context"
	"net"
	"path"

	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// caller is the key of what a connection's context knows of it.
type caller struct{}

// ServeControl serves one control connection of a guest and takes possession
// of it. It returns before the connection has ended, as it does with ctx and
// with the server, which needs HelloFirst among its interceptors. all counts
// its calls.
func ServeControl(ctx context.Context, s *ttrpc.Server, c net.Conn, all *Calls) {
	known := &control{Conn: c, all: all}
	ctx = context.WithValue(ctx, caller{}, known)
	one := &single{conn: known}
	s.Serve(ctx, one) // ends with the second Accept
	if one.conn != nil {
		c.Close() // the server is closed
	}
}

// HelloFirst refuses every call of a connection whose Hello has not gone well.
func HelloFirst(ctx context.Context, in ttrpc.Unmarshaler, info *ttrpc.UnaryServerInfo, call ttrpc.Method) (any, error) {
	known, ok := ctx.Value(caller{}).(*control)
	if ok {
		known.begin()
		defer known.owe()
	}
	if path.Base(info.FullMethod) == "Hello" {
		out, err := call(ctx, in)
		if ok {
			known.greeted.Store(err == nil)
		}
		return out, err
	}
	if !ok || !known.greeted.Load() {
		return nil, status.Errorf(codes.FailedPrecondition, "%s: the first call of a control connection is Hello", path.Base(info.FullMethod))
	}
	return call(ctx, in)
}

// single is a listener that has one connection, nil once it was accepted.
type single struct{ conn net.Conn }

func (l *single) Accept() (net.Conn, error) {
	c := l.conn
	if c == nil {
		return nil, net.ErrClosed
	}
	l.conn = nil
	return c, nil
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return &net.UnixAddr{Name: "control", Net: "unix"} }
