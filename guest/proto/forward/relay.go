package forward

import (
	"io"
	"net"
	"sync"
	"time"
)

// Bounds of what waits in user space, per connection.
const (
	joinBuffer = 64 << 10
	flowIdle   = 2 * time.Minute // the host ends flows before
)

// join is Join for a link whose bytes no kernel can move: with large buffers,
// for each frame costs.
func join(c Stream, app *net.TCPConn) {
	var ways sync.WaitGroup
	ways.Go(func() { halfBuffered(app, c) })
	ways.Go(func() { halfBuffered(c, app) })
	ways.Wait()
}

func halfBuffered(to, from Stream) {
	io.CopyBuffer(onlyWriter{to}, onlyReader{from}, make([]byte, joinBuffer))
	to.CloseWrite()
}

// The wrappers keep io.CopyBuffer from choosing another way.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// relay carries the datagrams of one flow.
func relay(c Stream, app net.Conn) {
	var ways sync.WaitGroup
	ways.Go(func() {
		defer app.Close()
		b := make([]byte, MaxDatagram)
		for {
			n, err := ReadDatagram(c, b)
			if err != nil {
				return
			}
			app.Write(b[:n]) // a datagram may be lost
			app.SetReadDeadline(time.Now().Add(flowIdle))
		}
	})
	ways.Go(func() {
		defer c.Close()
		b := make([]byte, MaxDatagram)
		for {
			n, err := app.Read(b)
			if err != nil || WriteDatagram(c, b[:n]) != nil {
				return
			}
			app.SetReadDeadline(time.Now().Add(flowIdle))
		}
	})
	ways.Wait()
}
