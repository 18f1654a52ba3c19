package service

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// notifySocket is where a daemon says that it is ready, as systemd has it.
type notifySocket struct {
	dir, path string
	conn      *net.UnixConn
}

// listenNotify makes the socket in a directory that only the caller enters.
func listenNotify() (*notifySocket, error) {
	dir, err := os.MkdirTemp("", "aegis-up-")
	if err != nil {
		return nil, fmt.Errorf("notification socket: %w", err)
	}
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("notification socket: %w", err)
	}
	return &notifySocket{dir: dir, path: path, conn: conn}, nil
}

// await tells once when READY=1 came, or that it cannot come any more. It
// ends with the socket.
func (n *notifySocket) await() <-chan error {
	ready := make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			size, err := n.conn.Read(buf)
			if err != nil {
				ready <- err
				return
			}
			if slices.Contains(strings.Split(string(buf[:size]), "\n"), "READY=1") {
				ready <- nil
				return
			}
		}
	}()
	return ready
}

func (n *notifySocket) close() {
	n.conn.Close()
	os.RemoveAll(n.dir)
}
