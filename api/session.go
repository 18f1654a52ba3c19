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
	//
	// A session may get lost on its way, with a client that gave up and asks
	// again: until TakeSession its end is not the client's. The clients of
	// transports take it for the caller.
	Rejoin(ctx context.Context, ref string) (session *os.File, err error)
}

// TakeSession tells aegisd that the session that Rejoin answered with has
// arrived.
func TakeSession(session *os.File) error {
	if _, err := session.Write([]byte{0}); err != nil {
		return Errorf(Unavailable, "taking the session: %w", err)
	}
	return nil
}
