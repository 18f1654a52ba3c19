package attendtest

import (
	"log/slog"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/workspace/attend"
)

// Connect gives a connection whose request is answered as c says, for this
// user.
func Connect(t testing.TB, c attend.Config) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.Peer, c.Tell, c.Log = uint32(os.Geteuid()), func(string) {}, slog.New(slog.DiscardHandler)
	ours, theirs := end(t, fds[0]), end(t, fds[1])
	go func() { // ends with the connection
		defer theirs.Close()
		if err := attend.Attend(t.Context(), theirs, c); err != nil {
			c.Log.Debug("a request", "error", err)
		}
	}()
	return ours
}

func end(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "end")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}
