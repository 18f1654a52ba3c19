package manager_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// systemd plays the part of systemd that asks scopes to end.
type systemd struct{ raw *dbus.Conn }

func startSystemd(t *testing.T, address string) systemd {
	t.Helper()
	raw, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	if _, err := raw.RequestName("org.freedesktop.systemd1", 0); err != nil {
		t.Fatal(err)
	}
	return systemd{raw}
}

func (s systemd) requestStop(t *testing.T, unit string) {
	t.Helper()
	path := dbus.ObjectPath("/org/freedesktop/systemd1/unit/" + bus.Escape(unit))
	if err := s.raw.Emit(path, "org.freedesktop.systemd1.Scope.RequestStop"); err != nil {
		t.Fatal(err)
	}
}

func TestSystemdsWishToStopReachesAllMachines(t *testing.T) {
	address := bustest.Start(t)
	systemd := startSystemd(t, address)
	d, dir := &fake.Driver{}, t.TempDir()
	deaf := unheard(t, dir, "a-deaf") // takes no request
	c := fakeConfig(t, d, dir)
	c.Patience = manager.Patience{Adopt: time.Millisecond, Silence: time.Hour, Stop: time.Hour}
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, id := range []string{"one", "two"} {
		if _, err := m.Start(t.Context(), managertest.Spec(id)); err != nil {
			t.Fatal(err)
		}
	}
	changes, err := m.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- manager.NewScopes(bustest.Dial(t, address), "").HandleStops(ctx, m) }()
	askUntilHeard(t, systemd, deaf)
	for _, id := range []string{"one", "two"} {
		systemd.requestStop(t, "aegis-vm-"+id+".scope")
	}
	for left := 2; left > 0; {
		if i := <-changes; i.State == vmm.StateEnded {
			left--
			if i.Exit.Reason != vmm.ReasonStopped {
				t.Errorf("machine %s: %+v", i.ID, i.Exit)
			}
		}
	}
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// askUntilHeard asks a worker that does not answer to end, until it has the
// request: whoever listens to systemd does so from then on.
func askUntilHeard(t *testing.T, s systemd, worker net.Listener) {
	t.Helper()
	heard := make(chan struct{})
	t.Cleanup(func() { <-heard })
	go func() {
		defer close(heard)
		for range 2 { // the manager's watch, then the request
			c, err := worker.Accept()
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		s.requestStop(t, "aegis-vm-a-deaf.scope")
		select {
		case <-heard:
			return
		case <-again.C:
		}
	}
}
