package forward

import (
	"io"
	"net"
	"sync"
)

// Stream is a connection of which one direction can be ended.
type Stream interface {
	net.Conn
	CloseWrite() error
}

// Join carries bytes between two connections until both directions have
// ended, handing each end on as a half-close, and closes both. The kernel
// moves the bytes where it can: no wrapper may be around a socket for that.
func Join(a, b Stream) {
	defer a.Close()
	defer b.Close()
	var ways sync.WaitGroup
	ways.Go(func() { half(a, b) })
	ways.Go(func() { half(b, a) })
	ways.Wait()
}

// half carries one direction. A reader that is gone ends it: its writer hears
// of that where the connection can tell, and at the latest at the end of the
// other direction.
func half(to, from Stream) {
	if _, err := io.Copy(to, from); err == nil {
		to.CloseWrite()
		return
	}
	if f, ok := from.(interface{ CloseRead() error }); ok {
		f.CloseRead()
	}
	to.CloseWrite()
}
