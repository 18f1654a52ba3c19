package manager_test

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// pipes are taps whose other end tells when nobody holds them any more.
type pipes struct {
	err  error
	ends map[string]*os.File
}

func (p *pipes) OpenTap(_ context.Context, machine string) (*os.File, error) {
	if p.err != nil {
		return nil, p.err
	}
	r, w, err := os.Pipe()
	p.ends[machine] = r
	return w, err
}

func openWithTaps(t *testing.T, taps manager.Taps) *manager.Manager {
	t.Helper()
	d := &fake.Driver{}
	m, err := manager.Open(t.Context(), manager.Config{
		Dir: t.TempDir(), Guest: managertest.Guest(t), Driver: d, Options: drivers.Options{Name: "fake", Accel: "none"},
		Launcher: manager.InProcess{Driver: d}, Taps: taps,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestATapIsHeldAsLongAsItsMachineLives(t *testing.T) {
	taps := &pipes{ends: map[string]*os.File{}}
	m := openWithTaps(t, taps)
	for _, id := range []string{"alone", "wired"} {
		s := managertest.Spec(id)
		s.Network = map[bool]string{true: id}[id == "wired"]
		if _, err := m.Start(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if len(taps.ends) != 1 || taps.ends["wired"] == nil {
		t.Fatalf("taps were opened of %v", taps.ends)
	}
	if err := m.Stop(t.Context(), "wired"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(taps.ends["wired"]); err != nil { // ends with the last holder
		t.Error(err)
	}
}

func TestAMachineWhoseTapCannotBeIsNotStarted(t *testing.T) {
	s := managertest.Spec("one")
	s.Network = s.ID
	_, err := openWithTaps(t, nil).Start(t.Context(), s)
	if api.CodeOf(err) != api.Unavailable {
		t.Errorf("where nobody makes taps: %v", err)
	}
	m := openWithTaps(t, &pipes{err: api.Errorf(api.NotFound, "machine one has no network")})
	if _, err := m.Start(t.Context(), s); api.CodeOf(err) != api.NotFound || !strings.Contains(err.Error(), "opening its tap") {
		t.Errorf("without a network: %v", err)
	}
	if all, err := m.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("left: %v, %v", all, err)
	}
}
