package qemu_test

import (
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm/qemu"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

func TestConformance(t *testing.T) {
	a := vmmtest.Real(t)
	d := &qemu.Driver{}
	vmmtest.Run(t, func(*testing.T) vmmtest.Harnessed {
		return vmmtest.Harnessed{
			Driver: d, Plan: a.Plan, NeverReady: a.NeverReady, PanicAtBoot: a.PanicAtBoot, Patience: 3 * time.Minute,
		}
	})
}
