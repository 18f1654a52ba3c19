package instance_test

import (
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

// What stops the scope of a machine, a hand or the end of the host, is no
// failure of its instance.
func TestAMachineThatTheHostEndsLeavesItsInstanceStopped(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		code    int
		signal  int
	}{
		"a program that ends in order":    {[]string{"trap"}, 0, 0},
		"a program that a signal ends":    {[]string{"sleep"}, 143, 15},
		"a program that has ended before": {[]string{"exit", "3"}, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.create(named(c.command...))
			if c.code != 3 {
				w.machines.shutdown(t, w.followed("web").Machine)
			}
			got := w.await("web", "its rest", func(in api.Instance, _ error) bool { return in.Machine == "" })
			if got.Phase != api.PhaseStopped || got.LastError != "" || got.ExitCode == nil || *got.ExitCode != c.code || got.ExitSignal != c.signal {
				t.Errorf("it came to rest as %+v", got)
			}
		})
	}
}

// followed returns once the program of an instance runs and somebody waits for
// its end.
func (w *world) followed(ref string) api.Instance {
	w.t.Helper()
	in := w.awaitPhase(ref, api.PhaseRunning)
	<-w.machine(ref).Awaited(api.PrimaryExec)
	return in
}

func TestAStopTellsHowTheProgramEnded(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		if _, err := w.Create(t.Context(), api.Caller{}, web()); err != nil {
			t.Fatal(err)
		}
		w.followed("web")
		got, err := w.Stop(t.Context(), "web")
		if err != nil || got.Phase != api.PhaseStopped || got.ExitCode == nil || *got.ExitCode != 0 {
			t.Fatalf("stopped: %+v, %v", got, err)
		}
	}
}

func TestAMachineThatTheHostEndsWhileAegisdIsAway(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	in := w.awaitPhase("web", api.PhaseRunning)
	w.kill()
	done := w.machines.driver.Machine(in.Machine).Done()
	w.machines.shutdown(t, in.Machine)
	<-done
	w.start()
	got := w.await("web", "its rest", func(in api.Instance, _ error) bool { return in.Machine == "" })
	if got.Phase != api.PhaseStopped || got.LastError != "" {
		t.Errorf("it came to rest as %+v", got)
	}
}

func TestAGuestThatLeavesByItselfHasFailed(t *testing.T) {
	w := newWorld(t)
	w.create(named("reboot"))
	got := w.await("web", "its rest", func(in api.Instance, _ error) bool { return in.Machine == "" })
	if got.Phase != api.PhaseFailed || got.LastError != "the guest powered itself off" {
		t.Errorf("it came to rest as %+v", got)
	}
}

func named(command ...string) api.InstanceSpec {
	return api.InstanceSpec{Handle: "web", Command: command}
}
