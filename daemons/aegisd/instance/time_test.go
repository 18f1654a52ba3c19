package instance_test

import (
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// toldTime checks that the guest was told the time so often, the last time
// since a moment.
func (w *world) toldTime(ref string, times int, since time.Time) {
	w.t.Helper()
	all := w.machine(ref).Times()
	if len(all) != times {
		w.t.Fatalf("the guest was told the time %d times, want %d", len(all), times)
	}
	if last := time.Unix(0, all[times-1]); last.Before(since) || last.After(time.Now()) {
		w.t.Errorf("the guest was told that it is %v, at %v", last, time.Now())
	}
}

func TestAGuestThatGoesOnIsToldTheTime(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	for i, wake := range []string{"resume", "start", "signal"} {
		w.call("pause")
		since := time.Now()
		w.call(wake)
		w.toldTime("web", i+1, since)
	}
	w.call("resume") // it runs already
	if n := len(w.machine("web").Times()); n != 3 {
		t.Errorf("told the time %d times", n)
	}
	if err := w.machines.hangUp(); err != nil {
		t.Fatal(err)
	}
	w.call("pause")
	since := time.Now()
	w.call("resume")
	w.toldTime("web", 4, since)
}

func TestAGuestThatGoesOnWithoutAegisdIsToldTheTime(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	machine := w.awaitPhase("web", api.PhaseRunning).Machine
	w.call("pause")
	w.kill()
	since := time.Now()
	if err := w.machines.Resume(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.awaitPhase("web", api.PhaseRunning)
	fake := w.machine("web")
	for deadline := time.Now().Add(10 * time.Second); len(fake.Times()) == 0; {
		w.awaitSession("web")
		if time.Now().After(deadline) {
			t.Fatal("the guest was not told the time")
		}
	}
	w.toldTime("web", 1, since)
}

func TestAGuestIsToldTheTimeAlsoToEndWithIt(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	fake := w.machine("web")
	w.call("pause")
	w.call("stop")
	if n := len(fake.Times()); n != 1 {
		t.Errorf("told the time %d times", n)
	}
}
