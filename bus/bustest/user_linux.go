package bustest

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/bus"
)

// DialAs connects as another user. The test is skipped unless root runs it.
func DialAs(tb testing.TB, address string, uid int) *bus.Conn {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("only root can connect as another user")
	}
	type result struct {
		conn *bus.Conn
		err  error
	}
	done := make(chan result)
	go func() {
		// A raw setresuid is the thread's alone. The thread is never
		// unlocked, so that the runtime ends it with the goroutine.
		runtime.LockOSThread()
		id := uintptr(uid)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, id, id, id); errno != 0 {
			done <- result{err: errno}
			return
		}
		c, err := bus.Dial(context.WithoutCancel(tb.Context()), address)
		done <- result{c, err}
	}()
	r := <-done
	if r.err != nil {
		tb.Fatalf("connecting as user %d: %v", uid, r.err)
	}
	tb.Cleanup(func() { r.conn.Close() })
	return r.conn
}

// dieWithParent has the kernel end a bus whose test program was killed.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
