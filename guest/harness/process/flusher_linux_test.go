package process

import (
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// noIO is the flag of a task, in its stat, whose memory comes without IO.
const noIO = 0x00080000

func TestProgramsAreNoFlushers(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread goes with the flag
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil {
		t.Skipf("becoming an IO flusher: %v", err)
	}
	flags := func(f func(string, []string, *syscall.ProcAttr) (int, error)) uint64 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		pid, err := f("/bin/cat", []string{"cat", "/proc/self/stat"}, &syscall.ProcAttr{Files: []uintptr{0, w.Fd(), 2}})
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(r)
		syscall.Wait4(pid, nil, 0, nil)
		n, err := strconv.ParseUint(strings.Fields(string(b))[8], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if got := flags(syscall.ForkExec); got&noIO == 0 {
		t.Skipf("this kernel does not tell (flags %x)", got)
	}
	if got := flags(forkExec); got&noIO != 0 {
		t.Errorf("a program has the flags %x", got)
	}
	if on, err := unix.PrctlRetInt(unix.PR_GET_IO_FLUSHER, 0, 0, 0, 0); err != nil || on != 1 {
		t.Errorf("the harness is no flusher any more: %d, %v", on, err)
	}
}
