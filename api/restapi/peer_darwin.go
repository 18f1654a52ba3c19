package restapi

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// peer asks the kernel who connected; the pid is not told there.
func peer(conn *net.UnixConn) (api.Caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nobody, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Xucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		cred, sockErr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	})
	if err == nil {
		err = sockErr
	}
	if err != nil {
		return nobody, fmt.Errorf("peer credentials: %w", err)
	}
	return api.Caller{UID: cred.Uid, GID: cred.Groups[0]}, nil
}
