//go:build !linux

package worker

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const credentialSpace = 0

// passCredentials does nothing: there is no SO_PASSCRED here.
func passCredentials(_, _ string, _ syscall.RawConn) error { return nil }

func credentialPid(*unix.SocketControlMessage) int { return 0 }
