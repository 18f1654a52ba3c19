package qemu_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/ttrpc"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/qemu"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

// answer starts a machine and says hello: no monitor's word counts, only an
// answer from inside.
func answer(b *testing.B, d *qemu.Driver, p vmm.Plan) vmm.Machine {
	b.Helper()
	m, err := d.Start(b.Context(), p)
	if err != nil {
		b.Fatal(err)
	}
	select {
	case <-m.Ready():
	case <-m.Done():
		b.Fatalf("machine ended: %+v", m.Exit())
	}
	c, err := m.Connect(b.Context(), proto.PortControl)
	if err != nil {
		b.Fatal(err)
	}
	client := ttrpc.NewClient(c)
	defer client.Close()
	if _, err := proto.NewGuestClient(client).Hello(b.Context(), &proto.HelloRequest{Version: proto.Version}); err != nil {
		b.Fatal(err)
	}
	return m
}

// accelerated is the driver after one probe, as a worker gets it.
func accelerated(b *testing.B) *qemu.Driver {
	b.Helper()
	s, err := (&qemu.Driver{}).Probe(b.Context())
	if err != nil || s.Missing != "" {
		b.Skipf("SKIPPED: %s %v", s.Missing, err)
	}
	return &qemu.Driver{Accel: s.Accel}
}

// BenchmarkStart measures from Start to the guest's first answer.
func BenchmarkStart(b *testing.B) {
	a, d := vmmtest.Real(b), accelerated(b)
	b.Run("boot", func(b *testing.B) {
		for b.Loop() {
			m := answer(b, d, a.Plan(b))
			b.StopTimer()
			m.Stop(b.Context())
			b.StartTimer()
		}
	})
	plan := a.Plan(b)
	s := snapshot(b, d, plan)
	template, err := qemu.Template(s.Memory)
	if err != nil {
		b.Fatal(err)
	}
	defer template.Close()
	for name, s := range map[string]vmm.Snapshot{
		"copy": s, "clone": {State: s.State, Memory: template},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := a.Plan(b)
				p.Disks, p.Restore = plan.Disks, &s
				m := answer(b, d, p)
				b.StopTimer()
				m.Stop(b.Context())
				b.StartTimer()
			}
		})
	}
}

// snapshot boots a machine and snapshots it.
func snapshot(b *testing.B, d *qemu.Driver, p vmm.Plan) vmm.Snapshot {
	b.Helper()
	m := answer(b, d, p)
	defer m.Stop(b.Context())
	var s vmm.Snapshot
	for name, f := range map[string]**os.File{"state": &s.State, "memory": &s.Memory} {
		var err error
		if *f, err = os.Create(filepath.Join(b.TempDir(), name)); err != nil {
			b.Fatal(err)
		}
	}
	b.Cleanup(func() { s.State.Close(); s.Memory.Close() })
	if err := m.Pause(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := m.Snapshot(b.Context(), s); err != nil {
		b.Fatal(err)
	}
	return s
}
