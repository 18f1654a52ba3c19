package cloudhypervisor_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/cloudhypervisor"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
	"golang.org/x/sys/unix"
)

// driver runs the program AEGIS_CLOUD_HYPERVISOR, else the one in PATH.
func driver(t *testing.T) *cloudhypervisor.Driver {
	t.Helper()
	d := &cloudhypervisor.Driver{Binary: os.Getenv("AEGIS_CLOUD_HYPERVISOR")}
	if s, err := d.Probe(t.Context()); err != nil || s.Missing != "" {
		t.Skipf("SKIPPED: %s %v", s.Missing, err)
	}
	return d
}

func TestConformance(t *testing.T) {
	d, a := driver(t), vmmtest.Real(t)
	vmmtest.Run(t, func(*testing.T) vmmtest.Harnessed {
		return vmmtest.Harnessed{
			Driver: d, Plan: a.Plan, NeverReady: a.NeverReady, PanicAtBoot: a.PanicAtBoot, Patience: 3 * time.Minute,
			StreamsEnd: true,
		}
	})
}

// TestARestoreTakesAnotherTap wants the guest of a machine with a network to go
// on with a tap of another process.
func TestARestoreTakesAnotherTap(t *testing.T) {
	d, a := driver(t), vmmtest.Real(t)
	before := a.Plan(t)
	before.NIC = tap(t)
	m := begun(t, d, before)
	if err := m.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := vmm.Snapshot{State: create(t, "state"), Memory: create(t, "memory")}
	if err := m.Snapshot(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := a.Plan(t)
	after.Disks, after.NIC, after.Restore = before.Disks, tap(t), &s
	begun(t, d, after)
	after = a.Plan(t)
	after.Disks, after.Restore = before.Disks, &s
	if _, err := d.Start(t.Context(), after); err == nil {
		t.Error("a machine with a network was restored without one")
	}
}

// begun starts a machine, lets it go on and greets its guest.
func begun(t *testing.T, d *cloudhypervisor.Driver, p vmm.Plan) vmm.Machine {
	t.Helper()
	m, err := d.Start(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop(context.Background()) })
	select {
	case <-m.Ready():
	case <-m.Done():
		t.Fatalf("it ended: %+v", m.Exit())
	}
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := m.Connect(t.Context(), proto.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(c)
	defer client.Close()
	if _, err := proto.NewGuestClient(client).Hello(t.Context(), &proto.HelloRequest{Version: proto.Version}); err != nil {
		t.Fatal(err)
	}
	return m
}

// tap makes a network device of the host that goes with the test.
func tap(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skipf("SKIPPED: opening /dev/net/tun: %v", err)
	}
	f := os.NewFile(uintptr(fd), "tap")
	t.Cleanup(func() { f.Close() })
	r, err := unix.NewIfreq("aegistest%d")
	if err != nil {
		t.Fatal(err)
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		t.Skipf("SKIPPED: making a tap: %v", err)
	}
	return f
}

func create(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
