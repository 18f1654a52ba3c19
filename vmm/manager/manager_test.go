package manager_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// openFake opens a manager of fake machines, whose workers are goroutines.
func openFake(t *testing.T, d *fake.Driver, dir string) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: dir, Keep: dir + ".kept", Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Launcher: manager.InProcess{Driver: d}, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestContract(t *testing.T) {
	managertest.Run(t, func(t *testing.T) managertest.World {
		d, dir := &fake.Driver{}, t.TempDir()
		m := openFake(t, d, dir)
		t.Cleanup(m.Close)
		return managertest.World{Manager: m, Driver: d, Dir: dir}
	})
}

func TestAManagerThatClosesUndoesWhatItHadBegun(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	d.Behave(fake.Behaviour{NeverReady: true})
	m := openFake(t, d, dir)
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error)
	go func() {
		_, err := m.Start(t.Context(), managertest.Spec("one"))
		failed <- err
	}()
	<-changes
	go m.Close()
	if err := <-failed; api.CodeOf(err) != api.Unavailable {
		t.Errorf("error %v, Unavailable expected", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
	if _, err := m.Start(t.Context(), managertest.Spec("two")); api.CodeOf(err) != api.Unavailable {
		t.Errorf("a closed manager says %v, Unavailable expected", err)
	}
}

func TestAShutdownUndoesAStart(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	d.Behave(fake.Behaviour{NeverReady: true})
	m := openFake(t, d, dir)
	defer m.Close()
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := m.Start(t.Context(), managertest.Spec("one"))
		failed <- err
	}()
	<-changes
	if err := m.Shutdown(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "stopped before its guest was ready") {
		t.Errorf("the start: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

func TestAMachineWithoutGuestKernelSaysWhatToDo(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: dir, Guest: t.TempDir(), Driver: d, Launcher: manager.InProcess{Driver: d},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.Start(t.Context(), managertest.Spec("one"))
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "run make build") {
		t.Errorf("error %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}

// late is a driver whose monitor is installed after the manager was opened.
type late struct {
	fake.Driver
	installed bool
}

func (d *late) Probe(context.Context) (vmm.Support, error) {
	if !d.installed {
		return vmm.Support{Driver: "fake", Missing: "the monitor is not found: install it"}, nil
	}
	return vmm.Support{Driver: "fake", Accel: "tcg", ClockKHz: 2_400_000}, nil
}

// planned notes the plans that workers get.
type planned struct {
	manager.InProcess
	plans chan worker.Plan
}

func (l planned) Launch(ctx context.Context, p worker.Plan, f worker.Files, log *os.File) (manager.Process, error) {
	l.plans <- p
	return l.InProcess.Launch(ctx, p, f, log)
}

func TestAMonitorThatWasInstalledLaterIsKnownInFull(t *testing.T) {
	d := &late{}
	l := planned{manager.InProcess{Driver: d}, make(chan worker.Plan, 1)}
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: t.TempDir(), Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake"}, Launcher: l,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Start(t.Context(), managertest.Spec("one")); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without a monitor: %v", err)
	}
	d.installed = true
	info, err := m.Start(t.Context(), managertest.Spec("one"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop(context.Background(), "one")
	if p := <-l.plans; p.Accel != "tcg" || p.ClockKHz != 2_400_000 || info.Accel != "tcg" {
		t.Errorf("the plan has %q and %d kHz, the machine %q", p.Accel, p.ClockKHz, info.Accel)
	}
}

// A directory without a record, or whose start was not finished, is what a
// manager leaves that was killed between two lines.
func TestHalfMadeDirectoriesAreClearedAway(t *testing.T) {
	d, dir := &fake.Driver{}, t.TempDir()
	for path, content := range map[string]string{
		"empty/x": "", "begun/starting": "", "begun/spec.json": `{"id":"begun"}`,
		"ended/spec.json": `{"id":"ended","memory_mib":64,"vcpus":1}`, "ended/run/exit.json": `{"reason":"poweroff"}`,
		"lost/spec.json": `{"id":"lost"}`, "strange/spec.json": `{"id":"other"}`,
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := openFake(t, d, dir)
	defer m.Close()
	all, err := m.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]vmm.Reason)
	for _, i := range all {
		got[i.ID] = i.Exit.Reason
	}
	if diff := cmp.Diff(map[string]vmm.Reason{"ended": vmm.ReasonPoweroff, "lost": vmm.ReasonWorkerLost}, got); diff != "" {
		t.Error(diff)
	}
	for name, kept := range map[string]bool{"empty": false, "begun": false, "ended": true, "lost": true, "strange": true} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != kept {
			t.Errorf("directory %s: %v", name, err)
		}
	}
	if err := m.Remove(t.Context(), "ended"); err != nil {
		t.Error(err)
	}
}
