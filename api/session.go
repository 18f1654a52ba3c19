package api

import (
	"context"
	"os"
)

// Sessions keep a client and its instance together over a restart of aegisd,
// which the streams of the client outlive and its session does not.
type Sessions interface {
	// Rejoin gives the client that holds the streams of an instance a new
	// session in place of the one that ended. An aegisd that was started
	// again waits for that as long as for a first Attach; then the client
	// counts as gone. BadState says that there is nothing to rejoin: the
	// instance has come to rest, or its session stands.
	Rejoin(ctx context.Context, ref string) (session *os.File, err error)
}
