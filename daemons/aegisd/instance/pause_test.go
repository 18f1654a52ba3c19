package instance_test

import (
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

func TestAPausedInstanceOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t)
	in := w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	w.call("pause")
	w.restart()
	got, err := w.Get(t.Context(), "web")
	if err != nil || got.Phase != api.PhasePaused {
		t.Fatalf("after the restart: %+v, %v", got, err)
	}
	w.call("signal") // resumes it, and needs a connection of its own
	w.awaitPhase("web", api.PhaseRunning)
	w.call("pause")
	w.restart()
	w.call("stop")
	w.awaitPhase("web", api.PhaseStopped)
	w.call("delete")
	w.awaitGone(in.ID)
}

func TestDaemonKilledBetweenAPauseAndItsRecord(t *testing.T) {
	w := newWorld(t)
	in := w.create(web())
	machine := w.awaitPhase("web", api.PhaseRunning).Machine
	for _, step := range []struct {
		turn func() error
		want api.Phase
	}{
		{func() error { return w.machines.Pause(t.Context(), machine) }, api.PhasePaused},
		{func() error { return w.machines.Resume(t.Context(), machine) }, api.PhaseRunning},
	} {
		w.kill()
		if err := step.turn(); err != nil {
			t.Fatal(err)
		}
		w.start()
		w.awaitPhase(in.ID, step.want)
	}
	w.call("signal")
}

func TestAMachineThatEndsWhilePausedIsNoticed(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	w.call("pause")
	w.machine("web").Crash("killed by signal 9")
	w.awaitPhase("web", api.PhaseFailed)
	w.call("start")
	w.awaitPhase("web", api.PhaseRunning)
	w.call("pause")
	w.machines.reboot()
	w.machines.breakWatches()
	w.awaitPhase("web", api.PhaseFailed)
}

func TestAPauseThatIsRefusedChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.machines.driver.Behave(fake.Behaviour{RefusePause: errors.New("not today")})
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	if _, err := w.Pause(t.Context(), "web"); !contains(err, "not today") {
		t.Errorf("pause: %v", err)
	}
	w.awaitPhase("web", api.PhaseRunning)
	w.call("signal")
	w.call("stop")
}

func TestManyPausesAndResumesAtOnce(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("trap"))
	s := w.attach(in.ID)
	if _, err := io.ReadFull(s.Stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 40 {
		call := w.Pause
		if i%2 == 0 {
			call = w.Resume
		}
		all.Go(func() {
			if _, err := call(t.Context(), in.ID); err != nil {
				t.Errorf("turn %d: %v", i, err)
			}
		})
	}
	all.Wait()
	got, err := w.Get(t.Context(), in.ID)
	if info, there := w.machines.Get(t.Context(), in.Machine); err != nil || there != nil || string(info.State) != string(got.Phase) {
		t.Errorf("the record says %s, the machine %s; %v, %v", got.Phase, info.State, err, there)
	}
	if err := w.Signal(t.Context(), in.ID, 15); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, s.Stdout); got != "signal 15\n" {
		t.Errorf("the program saw %q", got)
	}
	s.Close()
	w.awaitGone(in.ID)
}

func TestATimeoutEndsAPausedProgram(t *testing.T) {
	w := newWorld(t)
	spec := web()
	spec.TimeoutMS = 50
	w.create(spec)
	w.awaitPhase("web", api.PhaseRunning)
	if _, err := w.Pause(t.Context(), "web"); err != nil && api.CodeOf(err) != api.BadState { // the time may be up
		t.Fatal(err)
	}
	got := w.awaitPhase("web", api.PhaseStopped)
	if got.ExitCode == nil || *got.ExitCode != 124 {
		t.Errorf("timed out: %+v", got)
	}
}

func TestAPauseOfWhichNobodyCanTellIsTakenBack(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	machine := w.machine("web")
	w.machines.setDown(api.Errorf(api.Unavailable, "vmmd is away"))
	if _, err := w.Pause(t.Context(), "web"); !contains(err, "vmmd is away") {
		t.Errorf("pause: %v", err)
	}
	if err := machine.Pause(t.Context()); err != nil { // it had come through
		t.Fatal(err)
	}
	w.machines.setDown(nil)
	w.call("resume")
	w.call("signal")
}
