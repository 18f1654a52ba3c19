package fake_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

var serial atomic.Int64

func plan(t testing.TB) vmm.Plan {
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	return vmm.Plan{
		ID: fmt.Sprintf("fake-%d", serial.Add(1)), MemoryMiB: 128, VCPUs: 1, Dir: dir, Console: open("console"),
		Disks: []vmm.Disk{{Role: vmm.RoleImage, ReadOnly: true, File: open("image")}, {Role: vmm.RoleOwn, File: open("own")}},
	}
}

func TestConformance(t *testing.T) {
	vmmtest.Run(t, func(*testing.T) vmmtest.Harnessed {
		d := &fake.Driver{}
		return vmmtest.Harnessed{
			Driver: d, Plan: plan,
			NeverReady:  func(testing.TB, *vmm.Plan) { d.Behave(fake.Behaviour{NeverReady: true}) },
			PanicAtBoot: func(testing.TB, *vmm.Plan) { d.Behave(fake.Behaviour{PanicAtBoot: "no init found"}) },
			Kill:        func(m vmm.Machine) { m.(*fake.Machine).Crash("killed by the test") },
		}
	})
}
