package manager_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// share has the guest that "make build" makes.
const share = "../../share/aegisvm"

// realConfig configures a manager of real machines with real workers. The
// test is skipped where a machine cannot be started.
func realConfig(t *testing.T) manager.Config {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real machines")
	}
	dir := filepath.Join(share, "guest")
	if set := os.Getenv("AEGIS_TEST_GUEST"); set != "" { // one of its flavours
		dir = filepath.Dir(set)
	}
	guest, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(guest, "lean", "initramfs.cpio")); err != nil {
		if _, err := os.Stat(filepath.Join(guest, "distro", "initramfs.cpio")); err != nil {
			t.Skip("there is no guest in share/aegisvm: run make build")
		}
	}
	o, d, err := drivers.Choose(t.Context(), os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := d.Probe(t.Context()); err != nil || s.Missing != "" {
		t.Skipf("machines do not run here: %s (%v)", s.Missing, err)
	}
	worker := buildWorker(t)
	return manager.Config{
		Dir: filepath.Join(t.TempDir(), "machines"), Guest: guest, Driver: d, Options: o,
		Launcher: manager.Children{Binary: worker}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// buildWorker builds the worker, or takes AEGIS_TEST_WORKER where there is no
// compiler.
func buildWorker(t *testing.T) string {
	t.Helper()
	if set := os.Getenv("AEGIS_TEST_WORKER"); set != "" {
		return set
	}
	worker := filepath.Join(t.TempDir(), "aegis-vmm-worker")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", worker, "../../daemons/vmm-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the worker: %v: %s", err, out)
	}
	return worker
}

func open(t *testing.T, c manager.Config) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all, _ := m.List(context.Background())
		for _, i := range all {
			m.Stop(context.Background(), i.ID)
		}
		m.Close()
	})
	return m
}

func startReal(t *testing.T, m *manager.Manager, id string) vmm.Info {
	t.Helper()
	info, err := m.Start(t.Context(), managertest.Spec(id))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestARealMachineIsShutIn(t *testing.T) {
	c := realConfig(t)
	m := open(t, c)
	info := startReal(t, m, "jailed")
	f, err := m.Connect(t.Context(), "jailed", proto.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for who, pid := range map[string]int{"worker": info.WorkerPid, "monitor": info.Pid} {
		checkJail(t, who, pid, os.Geteuid() == 0)
	}
	if err := m.Stop(t.Context(), "jailed"); err != nil {
		t.Fatal(err)
	}
	for who, pid := range map[string]int{"worker": info.WorkerPid, "monitor": info.Pid} {
		if lives(pid) {
			t.Errorf("the %s is left as process %d", who, pid)
		}
	}
	if err := m.Remove(t.Context(), "jailed"); err != nil {
		t.Fatal(err)
	}
}

func TestAShutdownLetsTheGuestLeaveInOrder(t *testing.T) {
	m := open(t, realConfig(t))
	startReal(t, m, "leaver")
	if err := m.Shutdown(t.Context(), "leaver"); err != nil {
		t.Fatal(err)
	}
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range changes {
		if i.State != vmm.StateEnded {
			continue
		}
		if i.Exit.Reason != vmm.ReasonShutdown {
			t.Errorf("exit %+v", i.Exit)
		}
		return
	}
}

func TestAWorkersDeathTakesItsMachineAlong(t *testing.T) {
	m := open(t, realConfig(t))
	info := startReal(t, m, "orphan")
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-changes
	worker, err := os.FindProcess(info.WorkerPid)
	if err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	if err := worker.Kill(); err != nil {
		t.Fatal(err)
	}
	end := <-changes
	if took := time.Since(killed); took > time.Second {
		t.Errorf("it was noticed after %s, one second expected", took)
	}
	if end.State != vmm.StateEnded || end.Exit.Reason != vmm.ReasonWorkerLost {
		t.Errorf("the watch told %+v, exit %+v", end, end.Exit)
	}
	if lives(info.Pid) {
		t.Errorf("the monitor is left as process %d", info.Pid)
	}
}

func TestMachinesOutliveTheirManager(t *testing.T) {
	c := realConfig(t)
	first, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	before := startReal(t, first, "a")
	gone := startReal(t, first, "b")
	first.Close()
	monitor, err := os.FindProcess(gone.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := monitor.Kill(); err != nil {
		t.Fatal(err)
	}
	second := open(t, c)
	after, err := second.Get(t.Context(), "a")
	if err != nil || after != before {
		t.Errorf("the machine is %+v (%v), %+v expected", after, err, before)
	}
	changes, err := second.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range changes {
		if i.ID == "b" && i.State == vmm.StateEnded {
			if i.Exit.Reason != vmm.ReasonCrashed || !strings.Contains(i.Exit.Detail, "signal 9") {
				t.Errorf("exit %+v", i.Exit)
			}
			break
		}
	}
	f, err := second.Connect(t.Context(), "a", proto.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
