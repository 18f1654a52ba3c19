package quick

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// How late a timer may be: the kernel's default for programs, and ours.
const (
	slack     = 50 * time.Microsecond
	ownSlack  = time.Millisecond
	tasks     = "/proc/self/task"
	slackFile = "/proc/%s/timerslack_ns"
)

// Slacken lets the timers of the program's threads, and of those that they
// make, be late by a millisecond. The runtime's watchdog sleeps 20 microseconds
// at a time while anything is done; of a byte's way there and back through an
// emulated guest those timers and the switches to its thread were a quarter. A
// call that blocks holds its processor as much longer. Programs that are started
// must not inherit it: see Punctual.
func Slacken() error {
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return fmt.Errorf("making timers late: %w", err)
	}
	for _, t := range threads {
		value := strconv.FormatInt(ownSlack.Nanoseconds(), 10)
		if err := os.WriteFile(fmt.Sprintf(slackFile, t.Name()), []byte(value), 0); err != nil {
			return fmt.Errorf("making timers late: %w", err)
		}
	}
	return nil
}

// Punctual gives the calling thread, to which its caller is locked, the timers
// that programs have by default.
func Punctual() error {
	return unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack.Nanoseconds()), 0, 0, 0)
}
