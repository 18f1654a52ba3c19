// Package vmmtest is the conformance suite of machine drivers: what every
// vmm.Driver must do with a guest that runs the harness. A driver's own test
// calls Run; what the driver or the host cannot do is skipped with the reason
// in words. The package knows no driver.
package vmmtest

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
)

// Harnessed is a driver made ready for the suite.
type Harnessed struct {
	Driver vmm.Driver
	// Plan makes a fresh plan: its own ID, Dir, Console and writable disk,
	// and an image with the programs of vmm/fake/program in its PATH. Its
	// files live until the test ends.
	Plan func(t testing.TB) vmm.Plan
	// NeverReady and PanicAtBoot turn a plan into one whose guest never
	// rings, or whose kernel panics before it could.
	NeverReady, PanicAtBoot func(t testing.TB, p *vmm.Plan)
	// Kill ends the monitor as SIGKILL does; nil means to send that to
	// Machine.Pid.
	Kill func(m vmm.Machine)
	// StreamsEnd says that a restored guest sees the connections of before end
	// in order, as if the host had closed them: then the input of a program that
	// was dialled is over.
	StreamsEnd bool
	// Patience is the longest wait for anything, default 60 s.
	Patience time.Duration
}

// Run runs the suite. fresh is called once for each test.
func Run(t *testing.T, fresh func(t *testing.T) Harnessed) { run(t, fresh, cases) }

// RunSnapshots runs only what is about snapshots.
func RunSnapshots(t *testing.T, fresh func(t *testing.T) Harnessed) {
	run(t, fresh, slices.DeleteFunc(slices.Clone(cases), func(c testCase) bool { return !c.snapshots }))
}

func run(t *testing.T, fresh func(t *testing.T) Harnessed, cases []testCase) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := fresh(t)
			if h.Patience == 0 {
				h.Patience = time.Minute
			}
			if h.Kill == nil {
				h.Kill = func(m vmm.Machine) { syscall.Kill(m.Pid(), syscall.SIGKILL) }
			}
			ctx, cancel := context.WithTimeout(t.Context(), h.Patience)
			defer cancel()
			s, err := h.Driver.Probe(ctx)
			switch {
			case err != nil:
				t.Fatalf("probing the driver: %v", err)
			case s.Missing != "":
				t.Skipf("SKIPPED: driver %s does not work here: %s", s.Driver, s.Missing)
			case c.snapshots && !s.Snapshots:
				t.Skipf("SKIPPED: driver %s %s cannot snapshot", s.Driver, s.Version)
			}
			t.Logf("driver %s %s with %s", s.Driver, s.Version, s.Accel)
			watchLeaks(t)
			c.run(&suite{T: t, Harnessed: h, ctx: ctx, support: s})
		})
	}
}

// suite is one test of the suite while it runs.
type suite struct {
	*testing.T
	Harnessed
	ctx     context.Context
	support vmm.Support
}

type testCase struct {
	name string
	run  func(*suite)
	// snapshots says that the driver must be able to.
	snapshots bool
}

var cases = []testCase{
	{name: "a guest rings the doorbell and says hello", run: testHello},
	{name: "a guest takes its identity before any process", run: testIdentity},
	{name: "exit codes are those of a shell", run: testExitCodes},
	{name: "argv and environment arrive as given", run: testEnvironment},
	{name: "a caught signal reaches the program", run: testSignal},
	{name: "half-closed stdin ends the input and not the output", run: testHalfClose},
	{name: "20 MiB of output arrive whole", run: testManyBytes},
	{name: "a single line of 10 MiB arrives whole", run: testLongLine},
	{name: "20000 lines arrive in order", run: testManyLines},
	{name: "output waits for a slow reader and holds nobody else up", run: testBackPressure},
	{name: "several processes stream at once", run: testManyStreams},
	{name: "a terminal echoes, signals, is resized and ends", run: testTerminal},
	{name: "a process ends with its client and a detached one does not", run: testLifetimes},
	{name: "kept output survives its connections", run: testKept},
	{name: "files are copied both ways", run: testCopies},
	{name: "disks are found by role and keep what is written", run: testDisks},
	{name: "a read-only disk is read-only", run: testReadOnly},
	{name: "a machine without optional disks has no such devices", run: testMissingDisks},
	{name: "a paused guest makes no progress", run: testPause},
	{name: "connecting to a paused guest waits for the resume", run: testConnectPaused},
	{name: "pause and resume are no-ops where they lead to", run: testPauseTwice},
	{name: "a pause or resume that is given up does not mislead the next", run: testPauseGivenUp},
	{name: "connecting to a port where nobody listens fails", run: testNoListener},
	{name: "stop ends the machine and everything with it", run: testStop},
	{name: "an ended machine refuses everything with ErrEnded", run: testEnded},
	{name: "a guest that powers off has ended in order", run: testPoweroff},
	{name: "a guest that reboots has ended in order", run: testReboot},
	{name: "a kernel panic is told with its words", run: testPanic},
	{name: "a kernel that panics at boot is told with its words", run: testPanicAtBoot},
	{name: "a monitor killed at boot is noticed", run: testKilledAtBoot},
	{name: "a monitor killed while it runs is noticed", run: testKilledRunning},
	{name: "a guest that never rings is not ready and can be stopped", run: testNeverReady},
	{name: "start with an ended context leaves nothing", run: testStartCancelled},
	{name: "detached processes and files in memory survive a snapshot", run: testSnapshotDetached, snapshots: true},
	{name: "processes and memory survive a snapshot", run: testSnapshot, snapshots: true},
	{name: "two restores share no writable page", run: testRestoreTwice, snapshots: true},
	{name: "a restore takes other disks of equal size", run: testRestoreDisks, snapshots: true},
	{name: "a machine snapshotted goes on where it was", run: testSnapshotResume, snapshots: true},
	{name: "a restored machine can be snapshotted again", run: testSnapshotOfRestored, snapshots: true},
	{name: "a snapshot that is given up leaves the machine as it was", run: testSnapshotGivenUp, snapshots: true},
	{name: "a running machine cannot be snapshotted", run: testSnapshotRunning, snapshots: true},
	{name: "a broken snapshot is refused", run: testBrokenSnapshot, snapshots: true},
}
