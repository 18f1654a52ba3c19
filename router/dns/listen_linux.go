package dns

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// early lets an address be listened at that the host gets with its first
// guest.
func early(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	if err != nil {
		return err
	}
	return failed
}
