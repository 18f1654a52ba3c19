//go:build !linux

package worker

import (
	"os/exec"

	"github.com/xfeldman/aegisvm/vmm"
)

// Command does nothing: there are no cgroups here.
func (p Plan) Command() func(*exec.Cmd) { return nil }

func withOOM(_ *Cgroup, e vmm.Exit) string { return e.Detail }
