package restapi

import (
	"context"
	"math"
	"net"

	"github.com/xfeldman/aegisvm/api"
)

// nobody is the caller of a connection whose peer the kernel does not tell.
var nobody = api.Caller{UID: math.MaxUint32, GID: math.MaxUint32}

type callerKey struct{}

// withCaller notes who is at the other end of a new connection.
func withCaller(ctx context.Context, conn net.Conn) context.Context {
	who := nobody
	if c, ok := conn.(*net.UnixConn); ok {
		if p, err := peer(c); err == nil {
			who = p
		}
	}
	return context.WithValue(ctx, callerKey{}, who)
}

func callerOf(ctx context.Context) api.Caller {
	if who, ok := ctx.Value(callerKey{}).(api.Caller); ok {
		return who
	}
	return nobody
}
