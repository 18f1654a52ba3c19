package router

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"

	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// join carries bytes between two connections until both directions have
// ended, handing each end on as a half-close and a reset as a reset, and closes
// both. The kernel moves the bytes where it can: no wrapper may be around a
// socket for that.
func join(a, b forward.Stream) {
	var ways sync.WaitGroup
	var cut bool
	ways.Go(func() { cut = half(a, b) })
	other := half(b, a)
	ways.Wait()
	if cut || other {
		reset(a)
		reset(b)
	}
	a.Close()
	b.Close()
}

// half carries one direction and tells whether it was cut off. Where its
// reader was reset, its writer is, too, at once. A writer that is gone ends it,
// and the other direction goes on with what that had still said.
func half(to, from forward.Stream) (cut bool) {
	_, err := io.Copy(to, from)
	switch {
	case err == nil:
		to.CloseWrite()
		return false
	case broken(from), errors.Is(err, os.ErrDeadlineExceeded): // the machine has ended
		reset(to)
		to.Close()
		return true
	}
	cut = broken(to)
	if f, ok := from.(interface{ CloseRead() error }); ok {
		f.CloseRead()
	}
	to.CloseWrite()
	return cut
}

// reset has a connection end with a reset when it is closed. Only TCP has such
// an end: a stream of a guest ends in order, whatever becomes of its client.
func reset(c forward.Stream) {
	if t, ok := c.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
}
