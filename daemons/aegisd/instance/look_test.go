package instance_test

import (
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

// A manager may carry out later what was given up here.
func TestAMachineThatTurnsByItselfIsNoticed(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	machine := w.awaitPhase("web", api.PhaseRunning).Machine
	if err := w.machines.Pause(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase("web", api.PhasePaused)
	w.call("resume")
	w.call("signal")
	w.call("pause")
	if err := w.machines.Resume(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase("web", api.PhaseRunning)
	if n := len(w.machine("web").Times()); n != 2 {
		t.Errorf("the guest was told the time %d times, want 2", n)
	}
	w.call("signal")
	w.call("stop")
}

func TestAMachineThatTurnsBesideARequestEndsAsItIs(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	machine := w.awaitPhase("web", api.PhaseRunning).Machine
	for range 20 {
		done := make(chan error)
		go func() {
			_, err := w.Pause(t.Context(), "web")
			done <- err
		}()
		if err := w.machines.Resume(t.Context(), machine); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := w.machines.Resume(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase("web", api.PhaseRunning)
	w.call("signal")
	w.call("pause")
	w.awaitPhase("web", api.PhasePaused)
}
