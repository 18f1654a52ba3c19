package manager_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// discards tells which machines a manager wants ended.
type discards struct {
	manager.InProcess
	each func(id string)
}

func (l discards) Discard(_ context.Context, id, _ string) error {
	l.each(id)
	return nil
}

// spareAll fails the test when a machine is to be ended.
func spareAll(t *testing.T, d *fake.Driver) discards {
	return discards{manager.InProcess{Driver: d}, func(id string) { t.Errorf("machine %s was ended", id) }}
}

func fakeConfig(t *testing.T, d *fake.Driver, dir string) manager.Config {
	return manager.Config{
		Dir: dir, Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Launcher: manager.InProcess{Driver: d}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func TestAnOpenThatIsGivenUpEndsNothing(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	m := openFake(t, d, dir)
	if _, err := m.Start(t.Context(), managertest.Spec("one")); err != nil {
		t.Fatal(err)
	}
	m.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := fakeConfig(t, d, dir)
	c.Launcher = spareAll(t, d)
	if m, err := manager.Open(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
		m.Close()
	}
	m = openFake(t, d, dir)
	defer m.Close()
	if i, err := m.Get(t.Context(), "one"); err != nil || i.State != vmm.StateRunning {
		t.Errorf("machine %+v (%v)", i, err)
	}
	if err := m.Stop(t.Context(), "one"); err != nil {
		t.Error(err)
	}
}

// leave makes the directory of a machine, as an earlier manager leaves it.
func leave(t *testing.T, dir, id string) (run string) {
	t.Helper()
	run = filepath.Join(dir, id, "run")
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	spec := `{"id":"` + id + `","memory_mib":64,"vcpus":1}`
	if err := os.WriteFile(filepath.Join(dir, id, "spec.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	return run
}

// unheard leaves a machine whose worker is played by the caller.
func unheard(t *testing.T, dir, id string) net.Listener {
	t.Helper()
	leave(t, dir, id)
	f, err := worker.Listen(filepath.Join(dir, id))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// silent leaves a machine with a worker that does not answer until it is
// told to.
func silent(t *testing.T, d vmm.Driver, dir, id string) (answer func()) {
	t.Helper()
	run := leave(t, dir, id)
	dir = filepath.Join(dir, id)
	var f worker.Files
	var err error
	if f.Listener, err = worker.Listen(dir); err != nil {
		t.Fatal(err)
	}
	if f.RunDir, err = os.Open(run); err != nil {
		t.Fatal(err)
	}
	if f.Console, err = os.Create(filepath.Join(dir, "console.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	p := worker.Plan{ID: id, MemoryMiB: 64, VCPUs: 1, ReadyTimeout: time.Minute, RunDir: run}
	return func() {
		over := make(chan error, 1)
		go func() {
			over <- worker.Run(t.Context(), worker.Config{Plan: p, Files: f, Driver: d, Log: slog.New(slog.DiscardHandler)})
		}()
		t.Cleanup(func() { <-over })
	}
}

func TestASlowWorkerKeepsItsMachine(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	answer := silent(t, d, dir, "slow")
	c := fakeConfig(t, d, dir)
	c.Launcher = spareAll(t, d)
	c.Patience = manager.Patience{Adopt: time.Millisecond, Silence: time.Hour}
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if i, err := m.Get(t.Context(), "slow"); err != nil || i.State == vmm.StateEnded || i.WorkerPid != 0 {
		t.Errorf("before it answers: %+v (%v)", i, err)
	}
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-changes
	boot := make(chan struct{})
	d.Behave(fake.Behaviour{Boot: boot})
	answer()
	if i := <-changes; i.State != vmm.StateStarting {
		t.Errorf("the worker tells %+v", i)
	}
	close(boot)
	<-changes
	if err := m.Pause(t.Context(), "slow"); err != nil {
		t.Error(err)
	}
	if i, err := m.Get(t.Context(), "slow"); err != nil || i.State != vmm.StatePaused || i.WorkerPid == 0 {
		t.Errorf("after it has answered: %+v (%v)", i, err)
	}
	if err := m.Stop(t.Context(), "slow"); err != nil {
		t.Error(err)
	}
}

func TestMachinesAreTakenOverAtOnce(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	answer := silent(t, d, dir, "first")
	if err := os.Mkdir(filepath.Join(dir, "second"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := fakeConfig(t, d, dir)
	// The first answers when the second has had its turn.
	c.Launcher = discards{manager.InProcess{Driver: d}, func(string) { answer() }}
	c.Patience = manager.Patience{Adopt: time.Minute, Silence: time.Minute}
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if i, err := m.Get(t.Context(), "first"); err != nil || i.WorkerPid == 0 {
		t.Errorf("machine %+v (%v)", i, err)
	}
}
