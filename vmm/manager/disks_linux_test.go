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
	disks := vmmtest.Real(t).Plan(t).Disks
	path := filepath.Join(t.TempDir(), "kit")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	kit, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer kit.Close()
	spec := managertest.Spec("disks")
	spec.Disks = append(disks, vmm.Disk{Role: vmm.RoleKit, File: kit})
	if _, err := m.Start(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if code := runIn(t, m, "disks", "disk", "kit", "by the guest"); code != 0 {
		t.Errorf("writing to the disk ended with %d", code)
	}
	head := make([]byte, 12)
	if _, err := kit.ReadAt(head, 0); err != nil || string(head) != "by the guest" {
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
	if _, err := g.Start(ctx, &proto.StartRequest{Id: "p", Argv: argv, Env: []string{"PATH=/bin"}, Cwd: "/"}); err != nil {
		t.Fatal(err)
	}
	status := connect(t, m, id, proto.PortStream)
	if err := proto.WritePrelude(status, proto.Prelude{Kind: proto.Status, Process: "p"}); err != nil {
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
