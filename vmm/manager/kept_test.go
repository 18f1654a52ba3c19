package manager_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// shelf is a manager's store and the guest that is installed beside it.
type shelf struct {
	*testing.T
	driver *fake.Driver
	config manager.Config
}

func newShelf(t *testing.T) *shelf {
	d := &fake.Driver{}
	d.SetSaves(true)
	t.Cleanup(d.Discard)
	return &shelf{t, d, manager.Config{
		Dir: t.TempDir(), Keep: t.TempDir(), Guest: managertest.Guest(t), Driver: d,
		Options: drivers.Options{Name: "fake", Accel: "none"}, Launcher: manager.InProcess{Driver: d},
	}}
}

func (s *shelf) open() *manager.Manager {
	s.Helper()
	m, err := manager.Open(s.Context(), s.config)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(m.Close)
	return m
}

func (s *shelf) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// upgrade replaces the guest that is installed.
func (s *shelf) upgrade(word string) {
	s.Helper()
	s.ok(os.WriteFile(filepath.Join(s.config.Guest, "lean/initramfs.cpio"), []byte(word), 0o644))
}

// kept are the guests in the store, by what their initramfs says.
func (s *shelf) kept() map[string]bool {
	s.Helper()
	files, err := filepath.Glob(filepath.Join(s.config.Keep, "guests/*/initramfs.cpio"))
	s.ok(err)
	all := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		s.ok(err)
		all[string(b)] = true
	}
	return all
}

func TestWhatASnapshotBootedFromIsKeptAsLongAsItIs(t *testing.T) {
	s, ctx := newShelf(t), t.Context()
	m := s.open()
	_, err := m.Start(ctx, managertest.Spec("one"))
	s.ok(err)
	s.upgrade("second")
	s.ok(m.Pause(ctx, "one"))
	saved, err := m.Snapshot(ctx, "one", "snap")
	s.ok(err)
	s.ok(m.Stop(ctx, "one"))
	s.ok(m.Remove(ctx, "one"))
	_, err = m.Start(ctx, managertest.Spec("two"))
	s.ok(err)
	s.ok(m.Stop(ctx, "two"))
	s.ok(m.Remove(ctx, "two"))
	m.Close()
	s.upgrade("third")
	m = s.open()
	if got := s.kept(); len(got) != 1 || !got["initramfs.cpio"] {
		t.Errorf("kept after two upgrades: %v", got)
	}
	spec := managertest.Spec("three")
	spec.Restore = saved.ID
	_, err = m.Start(ctx, spec)
	s.ok(err)
	s.ok(m.RemoveSnapshot(ctx, saved.ID))
	if got := s.kept(); !got["initramfs.cpio"] {
		t.Error("what a machine has booted from is gone while that runs")
	}
	again := "again"
	_, err = m.Snapshot(ctx, "three", again)
	s.ok(err)
	s.ok(m.Stop(ctx, "three"))
	s.ok(m.Remove(ctx, "three"))
	s.ok(m.RemoveSnapshot(ctx, again))
	if got := s.kept(); len(got) != 0 {
		t.Errorf("kept for nobody: %v", got)
	}
}

func TestWhatWasLeftUnfinishedIsRemoved(t *testing.T) {
	s := newShelf(t)
	for _, dir := range []string{"guests/.tmp-1", "snapshots/.tmp-2", "guests/" + "0badbad"} {
		s.ok(os.MkdirAll(filepath.Join(s.config.Keep, dir), 0o755))
	}
	s.open()
	for _, dir := range []string{"guests", "snapshots"} {
		left, err := os.ReadDir(filepath.Join(s.config.Keep, dir))
		if err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", dir, left, err)
		}
	}
}
