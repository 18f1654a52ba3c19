package packet

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// credentialSpace is the room for the sender's credentials in control data.
var credentialSpace = unix.CmsgSpace(unix.SizeofUcred)

// PassCredentials has the kernel say with each packet who sent it: a worker
// that a guest has taken over must not be able to name another process, nor
// none, by a packet that is sent before we have asked; so it is a dialler's
// Control.
func PassCredentials(_, _ string, raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err != nil {
		return err
	}
	return set
}

func credentialPid(m *unix.SocketControlMessage) int {
	if c, err := unix.ParseUnixCredentials(m); err == nil {
		return int(c.Pid)
	}
	return 0
}
