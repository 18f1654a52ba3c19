package manager_test

import (
	"log/slog"
	"testing"

	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// openFake opens a manager of fake machines, whose workers are goroutines.
func openFake(t *testing.T, d *fake.Driver, dir string) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: dir, Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
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
