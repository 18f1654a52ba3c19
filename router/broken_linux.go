package router

import (
	"net"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// tcpClose is the kernel's TCP_CLOSE.
const tcpClose = 7

// broken tells of a connection with an error whether it was reset, or its peer
// is gone. One of which both ends were handed on is in the same state.
func broken(c forward.Stream) bool {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return false
	}
	var info *unix.TCPInfo
	control := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return control == nil && err == nil && info.State == tcpClose
}
