package router

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long bytes may wait for a guest that is paused.
const patience = 7 * 24 * time.Hour

// patient is a dialler's Control. Without it the kernel gives a connection up
// after a quarter of an hour without an answer.
func patient(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		// Best effort: without it a long pause ends the connections of before.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(patience.Milliseconds()))
	})
}
