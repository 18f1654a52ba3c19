package quick

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func slackOf(t *testing.T) time.Duration {
	t.Helper()
	ns, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ns)
}

func TestSlack(t *testing.T) {
	runtime.LockOSThread() // never unlocked: the thread goes with what it became
	if err := Slacken(); err != nil {
		t.Skip(err) // it takes CAP_SYS_NICE
	}
	if got := slackOf(t); got != ownSlack {
		t.Errorf("a thread that was there may be %v late", got)
	}
	if err := Punctual(); err != nil {
		t.Fatal(err)
	}
	if got := slackOf(t); got != slack {
		t.Errorf("after Punctual it may be %v late", got)
	}
}
