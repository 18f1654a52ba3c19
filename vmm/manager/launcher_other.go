//go:build !linux

package manager

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func detached(bool) *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func inNamespace(*syscall.SysProcAttr) bool { return false }

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// hostMemoryMiB is 0: it is not known here.
func hostMemoryMiB() int { return 0 }
