// Package doctor looks at a host and says what machines of ours would miss on
// it, and what to do about each. It changes nothing.
package doctor

import (
	"context"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	// OK: nothing to do.
	OK Level = "OK"
	// Warn: machines run, but not as well as they could.
	Warn Level = "WARN"
	// Fail: no machine runs.
	Fail Level = "FAIL"
)

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	// Text is what was found, Remedy what to do where that is not good.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Host is what the checks look at.
type Host struct {
	// Share has the guest's kernels and the base image.
	Share string
	// State is the directory whose file system instances fill.
	State string
	// Daemon asks aegisd, which it does not start.
	Daemon func(ctx context.Context) (api.Status, error)
	// Driver chooses the machine driver as aegisd does, with the rights of
	// this process.
	Driver func(ctx context.Context) (vmm.Support, error)
	// Walls tells what a machine's jail lacks: with the rights of this
	// process, or of the system's machine manager.
	Walls func(system bool) []string
	// LookPath finds a program.
	LookPath func(name string) (string, error)
	// Root is where /dev, /proc, /run and /sys are looked for; "" is the
	// host's own.
	Root string

	seen answers
}

// checkTimeout bounds one check.
const checkTimeout = 10 * time.Second

// Examine makes all checks, in an order that has the cause before its
// consequences.
func (h Host) Examine(ctx context.Context) []Finding {
	checks := []struct {
		name string
		look func(Host, context.Context) Finding
	}{
		{"monitor", Host.monitor},
		{"kvm", Host.kvm},
		{"guest kernel", Host.kernel},
		{"base image", Host.baseImage},
		{"mkfs.ext4", Host.mkfs},
		{"disk space", Host.space},
		{"tun", Host.tun},
		{"network", Host.network},
		{"cgroups", Host.cgroups},
		{"jail", Host.jail},
		{"systemd", Host.systemd},
		{"daemon", Host.daemon},
	}
	h.seen = h.ask(ctx)
	var all []Finding
	for _, c := range checks {
		bounded, cancel := context.WithTimeout(ctx, checkTimeout)
		f := c.look(h, bounded)
		cancel()
		f.Check = c.name
		all = append(all, f)
	}
	return all
}

// Usable tells whether machines can run.
func Usable(all []Finding) bool {
	for _, f := range all {
		if f.Level == Fail {
			return false
		}
	}
	return true
}
