//go:build !linux

package packet

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const credentialSpace = 0

// PassCredentials does nothing: there is no SO_PASSCRED here.
func PassCredentials(_, _ string, _ syscall.RawConn) error { return nil }

func credentialPid(*unix.SocketControlMessage) int { return 0 }
