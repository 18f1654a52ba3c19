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
