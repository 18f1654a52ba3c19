package vmmbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/vmmbus"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// daemonUID is a user that every system has and that may call.
const daemonUID = 1

// server is a vmmd of fake machines on a bus.
type server struct {
	driver *fake.Driver
	dir    string
	stop   func() // as a vmmd that is killed: its machines run on
}

func serve(t *testing.T, address string, d *fake.Driver, dir string) server {
	t.Helper()
	return serveBy(t, address, d, dir, manager.InProcess{Driver: d})
}

func serveBy(t *testing.T, address string, d *fake.Driver, dir string, l manager.Launcher) server {
	t.Helper()
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: dir, Keep: dir + ".kept", Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Launcher: l, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := bus.Dial(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	ready, over := make(chan struct{}), make(chan error, 1)
	go func() {
		over <- vmmbus.Serve(ctx, conn, m, []uint32{daemonUID}, func() error { close(ready); return nil })
	}()
	select {
	case <-ready:
	case err := <-over:
		t.Fatal(err)
	}
	s := server{driver: d, dir: dir, stop: sync.OnceFunc(func() {
		cancel()
		<-over
		conn.Close()
		m.Close()
	})}
	t.Cleanup(s.stop)
	return s
}

func TestContractOverTheBus(t *testing.T) {
	address := bustest.Start(t)
	managertest.Run(t, func(t *testing.T) managertest.World {
		s := serve(t, address, &fake.Driver{}, t.TempDir())
		return managertest.World{Manager: vmmbus.NewClient(bustest.Dial(t, address)), Driver: s.driver, Dir: s.dir}
	})
}

func TestOnlyRootAndAegisdMayCall(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, &fake.Driver{}, t.TempDir())
	for uid, allowed := range map[int]bool{0: true, daemonUID: true, 65534: false} {
		_, err := vmmbus.NewClient(bustest.DialAs(t, address, uid)).List(t.Context())
		if (err == nil) != allowed || err != nil && api.CodeOf(err) != api.Denied {
			t.Errorf("user %d: %v", uid, err)
		}
	}
}

func TestTheBusPolicyKeepsOthersOut(t *testing.T) {
	address := bustest.StartWithPolicies(t, "../../units/org.aegisvm.Vmm1.conf")
	serve(t, address, &fake.Driver{}, t.TempDir())
	if _, err := vmmbus.NewClient(bustest.Dial(t, address)).List(t.Context()); err != nil {
		t.Errorf("root: %v", err)
	}
	nobody := bustest.DialAs(t, address, 65534)
	if _, err := vmmbus.NewClient(nobody).List(t.Context()); api.CodeOf(err) != api.Denied {
		t.Errorf("nobody: %v, Denied expected", err)
	}
	if err := nobody.Claim(t.Context(), bus.VmmName); api.CodeOf(err) != api.Denied {
		t.Errorf("nobody claims the name: %v, Denied expected", err)
	}
}

func TestAWatchGoesOnWithTheNextVmmd(t *testing.T) {
	address, dir, d := bustest.Start(t), t.TempDir(), &fake.Driver{}
	first := serve(t, address, d, dir)
	client := vmmbus.NewClient(bustest.Dial(t, address))
	for _, id := range []string{"lives", "ends"} {
		if _, err := client.Start(t.Context(), managertest.Spec(id)); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := client.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-changes
	<-changes
	first.stop()
	d.Machine("ends").Crash("as asked")
	serve(t, address, d, dir)
	want := map[string]vmm.State{"lives": vmm.StateRunning, "ends": vmm.StateEnded}
	for seen := map[string]vmm.State{}; !maps.Equal(seen, want); {
		i, ok := <-changes
		if !ok {
			t.Fatal("the watch ended with the first vmmd")
		}
		seen[i.ID] = i.State
	}
	if err := client.Stop(t.Context(), "lives"); err != nil {
		t.Errorf("the new vmmd does not hold the machine: %v", err)
	}
}

// refusing launches no worker but one.
type refusing struct {
	manager.InProcess
	but string
}

func (l refusing) Launch(ctx context.Context, p worker.Plan, f worker.Files, log *os.File) (manager.Process, error) {
	if p.ID != l.but {
		f.Close()
		return nil, errors.New("refused as asked")
	}
	return l.InProcess.Launch(ctx, p, f, log)
}

func TestAStartThatFailsAtOnceLeavesNoObject(t *testing.T) {
	address, d := bustest.Start(t), &fake.Driver{}
	serveBy(t, address, d, t.TempDir(), refusing{manager.InProcess{Driver: d}, "last"})
	conn := bustest.Dial(t, address)
	client := vmmbus.NewClient(conn)
	changes, err := client.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const n = 20
	for i := range n {
		if _, err := client.Start(t.Context(), managertest.Spec(fmt.Sprint("a", i))); err == nil {
			t.Fatal("it was launched")
		}
	}
	if _, err := client.Start(t.Context(), managertest.Spec("last")); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]vmm.State)
	for seen["last"] != vmm.StateRunning { // all that came before is on the bus then
		i := <-changes
		seen[i.ID] = i.State
	}
	for i := range n {
		id := fmt.Sprint("a", i)
		if seen[id] != vmm.StateEnded {
			t.Errorf("the last that was told of %s is that it is %q", id, seen[id])
		}
		var state string
		object := conn.Object(bus.VmmName, bus.Child(bus.VmmPath, "machine", id), bus.VmmMachine)
		if err := object.Get(t.Context(), "State", &state); err == nil {
			t.Errorf("an object of %s is left in state %q", id, state)
		}
	}
}

func TestAMachineIsAnObjectWithProperties(t *testing.T) {
	address := bustest.Start(t)
	s := serve(t, address, &fake.Driver{}, t.TempDir())
	conn := bustest.Dial(t, address)
	changes, err := conn.Object(bus.VmmName, bus.VmmPath, bus.VmmManager).Subscribe(t.Context(), "MachineChanged")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := vmmbus.NewClient(conn).Start(t.Context(), managertest.Spec("a-1")); err != nil {
		t.Fatal(err)
	}
	s.driver.Machine("a-1").Panic("as asked")
	for sig := range changes.C {
		if sig.Body[1].(bus.Dict)["state"].Value() == "ended" {
			break
		}
	}
	object := conn.Object(bus.VmmName, bus.Child(bus.VmmPath, "machine", "a-1"), bus.VmmMachine)
	for name, want := range map[string]string{"Id": "a-1", "State": "ended", "ExitReason": "panic", "Driver": "fake"} {
		var got string
		if err := object.Get(t.Context(), name, &got); err != nil || got != want {
			t.Errorf("%s is %q (%v), %q expected", name, got, err, want)
		}
	}
}
