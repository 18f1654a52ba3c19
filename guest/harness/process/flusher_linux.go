package process

import (
	"runtime"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/harness/quick"
)

// forkExec starts a program. It must not inherit what the harness is while it
// carries the workspace: an IO flusher, whose memory nobody throttles, and not in
// time.
func forkExec(path string, argv []string, attr *syscall.ProcAttr) (int, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := quick.Punctual(); err != nil {
		return 0, err
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err == nil && on == 1 {
		unix.Prctl(unix.PR_SET_IO_FLUSHER, 0, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0)
		defer carryOn()()
	}
	return syscall.ForkExec(path, argv, attr)
}

// carryOn lets the workspace be carried while this thread starts a program,
// until the function that it returns is called. The program, its interpreter or
// its directory may be of the workspace: then the kernel asks the host for
// them, through us, before the start returns. As long as that takes the thread
// keeps one of Go's processors, and a garbage collection would stop all others
// to wait for it.
func carryOn() func() {
	percent := debug.SetGCPercent(-1) // returns when none is under way
	processors := runtime.GOMAXPROCS(0)
	if processors == 1 {
		runtime.GOMAXPROCS(2)
	}
	return func() {
		if processors == 1 {
			runtime.GOMAXPROCS(1)
		}
		debug.SetGCPercent(percent)
	}
}
