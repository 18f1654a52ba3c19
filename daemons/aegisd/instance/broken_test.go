package instance_test

import (
	"context"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// noteControl keeps a control connection, to count and to break it.
func (m *machines) noteControl(f *os.File) error {
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.controls = append(m.controls, os.NewFile(uintptr(fd), "control"))
	return nil
}

// dials is how many control connections were made.
func (m *machines) dials() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.controls)
}

// hangUp breaks the control connection that was made last.
func (m *machines) hangUp() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return unix.Shutdown(int(m.controls[len(m.controls)-1].Fd()), unix.SHUT_RDWR)
}

// awaitSession returns when the instance has a control connection that works.
func (w *world) awaitSession(ref string) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); w.Signal(w.t.Context(), ref, 28) != nil; {
		if in, err := w.Get(w.t.Context(), ref); err != nil || in.Phase != api.PhaseRunning || time.Now().After(deadline) {
			w.t.Fatalf("no control connection: %+v, %v", in, err)
		}
	}
}

func TestAProgramIsNotLostByBreaksThatAreFarApart(t *testing.T) {
	w := newWorld(t)
	w.timings.Retry = time.Millisecond
	w.restart()
	w.create(api.InstanceSpec{Command: []string{"trap"}, Handle: "web"})
	w.awaitPhase("web", api.PhaseRunning)
	for range 8 {
		if err := w.machines.hangUp(); err != nil {
			t.Fatal(err)
		}
		w.awaitSession("web")
	}
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Errorf("after the last break: %v", err)
	}
	if got := w.awaitPhase("web", api.PhaseStopped); got.ExitCode == nil || *got.ExitCode != 0 {
		t.Errorf("record: %+v", got)
	}
}

func TestAClientThatGivesUpCostsNobodyTheSession(t *testing.T) {
	w := newWorld(t)
	w.create(api.InstanceSpec{Command: []string{"trap"}, Handle: "web"})
	w.awaitPhase("web", api.PhaseRunning)
	before := w.machines.dials()
	if err := w.machine("web").Pause(t.Context()); err != nil { // nobody is told: it just does not answer
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := w.Signal(ctx, "web", 28); api.CodeOf(err) != api.Unavailable {
		t.Errorf("a signal that was given up: %v", err)
	}
	if err := w.machine("web").Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Errorf("the next signal: %v", err)
	}
	w.awaitPhase("web", api.PhaseStopped)
	if n := w.machines.dials() - before; n > 0 {
		t.Errorf("%d control connections were made anew", n)
	}
}
