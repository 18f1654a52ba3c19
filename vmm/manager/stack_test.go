package manager_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
	"github.com/xfeldman/aegisvm/vmm/packet"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// word is what a network in a worker says to whoever serves it.
type word struct {
	Link worker.Link `json:"link"`
}

// chatty is a network in a worker that only says whose it is.
type chatty struct{ link worker.Link }

func (c chatty) NIC() *os.File {
	f, err := os.Open(os.DevNull)
	if err != nil {
		panic(err)
	}
	return f
}

func (c chatty) Serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if packet.Send(conn, word{c.link}) == nil {
		conn.Read(make([]byte, 1)) // until the other end goes
	}
}

func (c chatty) Close() {}

// listener is whoever serves such networks.
type listener struct{ heard chan word }

func (l listener) Link(_ context.Context, machine string) (guest, gateway netip.Addr, err error) {
	if machine != "origin" {
		return guest, gateway, api.Errorf(api.NotFound, "machine %q has no network", machine)
	}
	return netip.MustParseAddr("10.213.0.2"), netip.MustParseAddr("10.213.0.1"), nil
}

func (l listener) Serve(_ string, c *net.UnixConn) {
	defer c.Close()
	var w word
	if _, err := packet.Receive(c, &w); err == nil {
		l.heard <- w
	}
	c.Read(make([]byte, 1))
}

func TestANetworkInTheWorkerIsServedByEachManager(t *testing.T) {
	d := &fake.Driver{}
	c := manager.Config{
		Dir: t.TempDir(), Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Stacks: listener{make(chan word, 10)},
		Launcher: manager.InProcess{Driver: d, Network: func(l worker.Link, _ *slog.Logger) (worker.Network, error) {
			return chatty{l}, nil
		}},
	}
	heard := c.Stacks.(listener).heard
	m, err := manager.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := managertest.Spec("lost")
	s.Network = s.ID
	if _, err := m.Start(t.Context(), s); api.CodeOf(err) != api.NotFound {
		t.Errorf("a machine that has no network: %v", err)
	}
	s.ID, s.Network = "wired", "origin"
	if _, err := m.Start(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	alone := managertest.Spec("alone")
	if _, err := m.Start(t.Context(), alone); err != nil {
		t.Fatal(err)
	}
	want := word{worker.Link{Guest: netip.MustParseAddr("10.213.0.2"), Gateway: netip.MustParseAddr("10.213.0.1")}}
	if got := <-heard; got != want {
		t.Errorf("its network says %+v", got)
	}
	m.Close()
	if m, err = manager.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if got := <-heard; got != want {
		t.Errorf("to the next manager its network says %+v", got)
	}
	for _, id := range []string{"wired", "alone"} {
		if err := m.Stop(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	select {
	case w := <-heard:
		t.Errorf("somebody else says %+v", w)
	default:
	}
}

func TestADriverThatNeedsTapsIsToldSo(t *testing.T) {
	d := tapsOnly{&fake.Driver{}}
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: t.TempDir(), Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Launcher: manager.InProcess{Driver: d}, Stacks: listener{make(chan word, 1)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	s := managertest.Spec("wired")
	s.Network = s.ID
	if _, err := m.Start(t.Context(), s); api.CodeOf(err) != api.Unavailable {
		t.Errorf("started: %v", err)
	}
}

// tapsOnly is a driver as Cloud Hypervisor is.
type tapsOnly struct{ *fake.Driver }

func (d tapsOnly) Probe(ctx context.Context) (vmm.Support, error) {
	s, err := d.Driver.Probe(ctx)
	s.Frames = false
	return s, err
}

func TestASnapshotStaysWithItsKindOfNetwork(t *testing.T) {
	s, ctx := newShelf(t), t.Context()
	stacks := s.config
	stacks.Stacks = listener{make(chan word, 10)}
	stacks.Launcher = manager.InProcess{Driver: s.driver, Network: func(l worker.Link, _ *slog.Logger) (worker.Network, error) {
		return chatty{l}, nil
	}}
	taps := s.config
	taps.Taps = flat{}
	for _, c := range []struct {
		name        string
		taken, told manager.Config
		code        api.Code
	}{
		{"in-workers", stacks, taps, api.Unavailable},
		{"in-workers-again", stacks, stacks, ""},
		{"taps", taps, stacks, api.Unavailable},
		{"taps-again", taps, taps, ""},
	} {
		s.config = c.taken
		m := s.open()
		spec := managertest.Spec(c.name)
		spec.Network = "origin"
		_, err := m.Start(ctx, spec)
		s.ok(err)
		s.ok(m.Pause(ctx, spec.ID))
		saved, err := m.Snapshot(ctx, spec.ID, "of-"+c.name)
		s.ok(err)
		s.ok(m.Stop(ctx, spec.ID))
		s.ok(m.Remove(ctx, spec.ID))
		m.Close()
		s.config = c.told
		m = s.open()
		spec.Restore = saved.ID
		_, err = m.Start(ctx, spec)
		if api.CodeOf(err) != c.code {
			t.Errorf("%s: %v, %q expected", c.name, err, c.code)
		}
		if err == nil {
			s.ok(m.Stop(ctx, spec.ID))
			s.ok(m.Remove(ctx, spec.ID))
		}
		m.Close()
	}
}

// flat gives taps that lead nowhere.
type flat struct{}

func (flat) OpenTap(context.Context, string) (*os.File, error) { return os.Open(os.DevNull) }
