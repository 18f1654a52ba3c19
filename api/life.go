package api

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// Life is the part of Aegis that is about instances which stay: what starts
// them again, what keeps them from starting, and what becomes of them.
type Life interface {
	// Restart stops the instance in order and starts it again in the
	// background. It starts one that is at rest or disabled, too.
	Restart(ctx context.Context, ref string) (Instance, error)
	// Enable takes Disable back. It starts nothing.
	Enable(ctx context.Context, ref string) (Instance, error)
	// Disable stops the instance in order and keeps everything but Enable,
	// Start and Restart from starting it. It returns when its machine is gone.
	Disable(ctx context.Context, ref string) (Instance, error)
	// Pause stops the processors of a running instance; its memory stays.
	// Signal, Attach, Start and Stop of a paused instance resume it first, and
	// its timeout goes on.
	Pause(ctx context.Context, ref string) (Instance, error)
	// Hibernate puts the memory of a running or paused instance on disk and ends
	// its machine; its programs are kept and go on when it is woken. BadState
	// where somebody uses it or its machine cannot be saved.
	Hibernate(ctx context.Context, ref string) (Instance, error)
	// Resume lets a paused instance go on; it is a no-op on a running one.
	Resume(ctx context.Context, ref string) (Instance, error)
	// Keepalive keeps an instance awake for a while, and wakes one that sleeps.
	// It replaces the lease that there is, outlives the client and aegisd, and
	// ends with a stop. BadState for one at rest.
	Keepalive(ctx context.Context, ref string, lease Lease) (Instance, error)
	// Release ends the lease of an instance; without one it is a no-op.
	Release(ctx context.Context, ref string) (Instance, error)
	// Rename gives an instance another handle; Exists when that is taken. A
	// guest that runs keeps its host name until its next start.
	Rename(ctx context.Context, ref, handle string) (Instance, error)
	// Wait returns the instance when it has become what is awaited. What can
	// no longer come about by itself is BadState.
	Wait(ctx context.Context, ref string, until Until) (Instance, error)
	// Prune deletes the instances that have been at rest for so long and
	// returns their ids. It spares those that are to be started again: by
	// their restart policy, or, unless they are disabled, on demand. A dry run
	// only tells which they are.
	Prune(ctx context.Context, olderThan time.Duration, dry bool) ([]string, error)
}

// Until is what Wait waits for.
type Until string

// What can be awaited.
const (
	// UntilStopped is the end: the instance is at rest and no restart is due,
	// or it is gone.
	UntilStopped Until = "stopped"
	// UntilRunning is a running program.
	UntilRunning Until = "running"
	// UntilGone is the deletion of the instance.
	UntilGone Until = "gone"
)

// RestartPolicy says what starts an instance again whose program has ended or
// whose machine has failed. What a user stopped stays so in any case.
type RestartPolicy string

// The policies.
const (
	// RestartNever, the default, leaves it to Start and Restart.
	RestartNever RestartPolicy = "never"
	// RestartOnFailure starts it again after an exit code other than 0, a
	// signal, or a failed machine; at most 5 times within 2 minutes.
	RestartOnFailure RestartPolicy = "on-failure"
	// RestartAlways starts it again however it ended, also after a reboot of
	// the host.
	RestartAlways RestartPolicy = "always"
	// RestartOnDemand starts it again when somebody needs it.
	RestartOnDemand RestartPolicy = "on-demand"
)

// ParseAge reads a length of time as Go writes it, or in days such as 7d.
func ParseAge(text string) (time.Duration, error) {
	const day = 24 * time.Hour
	age, err := time.ParseDuration(text)
	if days, isDays := strings.CutSuffix(text, "d"); isDays {
		var n int
		n, err = strconv.Atoi(days)
		age = time.Duration(n) * day
		if n < 0 || n > 100_000 {
			age = -1
		}
	}
	if err != nil || age < 0 {
		return 0, Errorf(InvalidArgument, "age %q: expected a length of time such as 90m, 24h or 7d", text)
	}
	return age, nil
}
