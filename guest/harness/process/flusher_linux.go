package process

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// forkExec starts a program. It must not inherit what the harness is while it
// carries the workspace: an IO flusher, whose memory nobody throttles.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if on, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err == nil && on == 1 {
		unix.Prctl(unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0)
	}
	return syscall.ForkExec(path, argv, attr)
}
