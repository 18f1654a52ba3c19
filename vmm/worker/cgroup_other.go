//go:build !linux

package worker

import (
	"github.com/xfeldman/aegisvm/vmm"
)

// Place does nothing: there are no cgroups here.
func (p Plan) Place() func(pid int) error { return nil }

func withOOM(_ *Cgroup, e vmm.Exit) string { return e.Detail }
