package cloudhypervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// errRefused says that the guest did not take a connection. Cloud Hypervisor
// tells no reason: it only hangs up.
var errRefused = errors.New("refused by the guest: nobody listens, or too many wait")

// maxReply is the longest answer to CONNECT.
const maxReply = 32

// stream is a connection as the muxer of a vsock knows it: the host's port,
// which it gives, and the guest's.
type stream struct{ host, guest uint32 }

// firstPort is the first that a muxer gives; the next are counted on.
const firstPort = 1 << 30

// idlePort is one of the guest's where nobody listens.
const idlePort = 1

// muxer dials ports of the guest. That of a restored machine counts from the
// beginning, while its guest still has what was connected to the one before: a
// connection of the same two ports would be taken for that, so those host ports
// are used up on a port where nobody listens.
type muxer struct {
	socket string
	turn   chan struct{} // holds a token; whoever has it may use the fields below
	next   uint32        // the host's port of the next connection
	stale  map[stream]bool
	last   uint32 // the greatest host port in stale
}

func newMuxer(socket string, stale []stream) *muxer {
	m := &muxer{socket: socket, turn: make(chan struct{}, 1), next: firstPort, stale: make(map[stream]bool)}
	for _, s := range stale {
		m.stale[s], m.last = true, max(m.last, s.host)
	}
	m.turn <- struct{}{}
	return m
}

// dial opens a stream to a port of the guest.
func (m *muxer) dial(ctx context.Context, port uint32) (*net.UnixConn, error) {
	select {
	case <-m.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if m.next > m.last { // none is in the way any more
		m.turn <- struct{}{}
		return dial(ctx, m.socket, port)
	}
	defer func() { m.turn <- struct{}{} }()
	for m.stale[stream{m.next, port}] {
		m.next++
		c, err := dial(ctx, m.socket, idlePort)
		if err == nil {
			c.Close()
		} else if !errors.Is(err, errRefused) {
			return nil, err
		}
	}
	m.next++
	return dial(ctx, m.socket, port)
}

// dial opens a stream to a port of the guest on the socket of its vsock.
func dial(ctx context.Context, socket string, port uint32) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	conn := c.(*net.UnixConn)
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	err = connect(conn, port)
	if !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// connect asks for the port. It reads the answer byte by byte, as the
// guest's own bytes follow it.
func connect(conn net.Conn, port uint32) error {
	if _, err := fmt.Fprintf(conn, "CONNECT %d\n", port); err != nil {
		return errRefused
	}
	var reply strings.Builder
	for b := make([]byte, 1); b[0] != '\n'; reply.WriteByte(b[0]) {
		if _, err := conn.Read(b); err != nil || reply.Len() == maxReply {
			return errRefused
		}
	}
	if !strings.HasPrefix(reply.String(), "OK ") {
		return fmt.Errorf("answer %q to CONNECT, OK expected", strings.TrimSpace(reply.String()))
	}
	return nil
}
