package manager_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/ttrpc"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/vmmtest"
)

// TestAJailedMachineHasItsDisks boots with disks that the machine's user could
// not open by itself: one monitor is given descriptors, another opens them by
// name, and both must be able to from inside the jail.
func TestAJailedMachineHasItsDisks(t *testing.T) {
	m := open(t, realConfig(t))
	spec := managertest.Spec("disks")
	var kit *os.File
	spec.Disks, kit = realDisks(t)
	if _, err := m.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	writesKit(t, m, "disks", kit, "by the guest")
}

// TestAJailedMachineIsSavedAndGoesOn saves a machine and has another go on,
// each in its jail.
func TestAJailedMachineIsSavedAndGoesOn(t *testing.T) {
	c := realConfig(t)
	c.Keep = filepath.Join(t.TempDir(), "kept")
	m := open(t, c)
	spec := managertest.Spec("before")
	var kit *os.File
	spec.Disks, kit = realDisks(t)
	if _, err := m.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	writesKit(t, m, "before", kit, "by the first")
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("pause", m.Pause(t.Context(), "before"))
	saved, err := m.Snapshot(t.Context(), "before", "snap")
	must("snapshot", err)
	t.Logf("%s %s: %d KiB on disk of a guest of %d MiB", saved.Driver, saved.Version, saved.Bytes>>10, saved.MemoryMiB)
	if saved.Bytes > int64(saved.MemoryMiB)<<20 {
		t.Errorf("%d bytes on disk, of %d MiB", saved.Bytes, saved.MemoryMiB)
	}
	must("stop", m.Stop(t.Context(), "before"))
	must("remove", m.Remove(t.Context(), "before"))
	spec.ID, spec.Restore = "after", "snap"
	info, err := m.Start(t.Context(), spec)
	must("restore", err)
	if info.State != vmm.StatePaused {
		t.Errorf("restored: %+v", info)
	}
	must("resume", m.Resume(t.Context(), "after"))
	writesKit(t, m, "after", kit, "by the other")
	must("pause", m.Pause(t.Context(), "after"))
	_, err = m.Snapshot(t.Context(), "after", "again")
	must("snapshot of what was restored", err)
}

// realDisks are those of a machine with programs, and one that its user may
// not open.
func realDisks(t *testing.T) (disks []vmm.Disk, kit *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kit")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	kit, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kit.Close() })
	return append(vmmtest.Real(t).Plan(t).Disks, vmm.Disk{Role: vmm.RoleKit, File: kit}), kit
}

// writesKit has the guest write to a disk.
func writesKit(t *testing.T, m *manager.Manager, id string, kit *os.File, words string) {
	t.Helper()
	if code := runIn(t, m, id, "disk", "kit", words); code != 0 {
		t.Errorf("writing to the disk ended with %d", code)
	}
	head := make([]byte, len(words))
	if _, err := kit.ReadAt(head, 0); err != nil || string(head) != words {
		t.Errorf("the disk starts with %q (%v)", head, err)
	}
}

// runIn runs a program in a machine's guest and gives its exit code.
func runIn(t *testing.T, m *manager.Manager, id string, argv ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := ttrpc.NewClient(connect(t, m, id, proto.PortControl))
	defer client.Close()
	g := proto.NewGuestClient(client)
	if _, err := g.Hello(ctx, &proto.HelloRequest{Version: proto.Version}); err != nil {
		t.Fatal(err)
	}
	identity := proto.Identity{
		Hostname: "h", Entropy: make([]byte, 32), UnixNano: time.Now().UnixNano(),
		InstanceId: "i", MachineId: "0123456789abcdef0123456789abcdef",
	}
	if _, err := g.SetIdentity(ctx, &identity); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Start(ctx, &proto.StartRequest{Id: id, Argv: argv, Env: []string{"PATH=/bin"}, Cwd: "/"}); err != nil {
		t.Fatal(err)
	}
	status := connect(t, m, id, proto.PortStream)
	if err := proto.WritePrelude(status, proto.Prelude{Kind: proto.Status, Process: id}); err != nil {
		t.Fatal(err)
	}
	end, err := proto.ReadStatus(status)
	if err != nil {
		t.Fatal(err)
	}
	return int(end.Code)
}

func connect(t *testing.T, m *manager.Manager, id string, port uint32) net.Conn {
	t.Helper()
	f, err := m.Connect(t.Context(), id, port)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}
