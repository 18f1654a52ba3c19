package cloudhypervisor_test

import (
	"os"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm/cloudhypervisor"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

// TestConformance runs the program AEGIS_CLOUD_HYPERVISOR, else the one in
// PATH.
func TestConformance(t *testing.T) {
	d := &cloudhypervisor.Driver{Binary: os.Getenv("AEGIS_CLOUD_HYPERVISOR")}
	if s, err := d.Probe(t.Context()); err != nil || s.Missing != "" {
		t.Skipf("SKIPPED: %s %v", s.Missing, err)
	}
	a := vmmtest.Real(t)
	vmmtest.Run(t, func(*testing.T) vmmtest.Harnessed {
		return vmmtest.Harnessed{
			Driver: d, Plan: a.Plan, NeverReady: a.NeverReady, PanicAtBoot: a.PanicAtBoot, Patience: 3 * time.Minute,
		}
	})
}
