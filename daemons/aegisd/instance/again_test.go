package instance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// timedWorld is a world whose time stands still.
func timedWorld(t *testing.T) (*world, *clock) {
	w, c := newWorld(t), newClock()
	w.clock = c
	w.restart()
	return w, c
}

func policy(p api.RestartPolicy, command ...string) api.InstanceSpec {
	return api.InstanceSpec{Handle: "web", Command: command, Restart: p}
}

// awaitDue returns once start number n has ended and a restart is due.
func (w *world) awaitDue(n uint64) api.Instance {
	w.t.Helper()
	return w.await("web", fmt.Sprintf("a restart after start %d", n), func(in api.Instance, _ error) bool { return in.Starts == n && in.RestartAt != nil })
}

func (w *world) awaitStart(n uint64) api.Instance {
	w.t.Helper()
	return w.await("web", fmt.Sprintf("start %d", n), func(in api.Instance, _ error) bool { return in.Starts == n && in.Phase == api.PhaseRunning })
}

func TestOnFailureTriesFiveTimesThenGivesUp(t *testing.T) {
	w, c := timedWorld(t)
	w.create(policy(api.RestartOnFailure, "exit", "3"))
	for n, delay := range []time.Duration{1, 2, 4, 8, 16} {
		in := w.awaitDue(uint64(n + 1))
		if wait := in.RestartAt.Sub(c.Now()); wait != delay*time.Second || in.RestartCount != n || in.ExitCode == nil || *in.ExitCode != 3 {
			t.Fatalf("after start %d it waits %v: %+v", n+1, wait, in)
		}
		c.advance(delay*time.Second - 1)
		if in, err := w.Get(t.Context(), "web"); err != nil || in.Phase != api.PhaseStopped {
			t.Fatalf("it was started too early: %+v, %v", in, err)
		}
		c.advance(1)
	}
	got, err := w.Wait(t.Context(), "web", api.UntilStopped)
	if err != nil || got.Phase != api.PhaseFailed || got.LastError != "gave up after 5 restarts within 2m0s: exited with code 3" || got.RestartCount != 5 {
		t.Errorf("in the end: %+v, %v", got, err)
	}
	w.restart()
	if again, err := w.Get(t.Context(), "web"); err != nil || again.RestartAt != nil || again.Phase != api.PhaseFailed {
		t.Errorf("after a restart of the daemon: %+v, %v", again, err)
	}
	if in, err := w.Start(t.Context(), "web"); err != nil || in.RestartCount != 0 || in.LastError != "" {
		t.Errorf("a start by a user: %+v, %v", in, err)
	}
	if in := w.awaitDue(7); in.RestartAt.Sub(c.Now()) != time.Second {
		t.Errorf("it begins anew: %+v", in)
	}
}

func TestMachinesThatFailAreStartedAgain(t *testing.T) {
	w, c := timedWorld(t)
	w.machines.driver.Behave(fake.Behaviour{PanicAtBoot: "no root"})
	w.create(policy(api.RestartOnFailure, "sleep"))
	in := w.awaitDue(1)
	if in.Phase != api.PhaseFailed || !strings.Contains(in.LastError, "no root") {
		t.Errorf("after a failed boot: %+v", in)
	}
	w.machines.driver.Behave(fake.Behaviour{})
	c.advance(time.Second)
	w.awaitStart(2)
	w.machine("web").Crash("killed by signal 9")
	if in := w.awaitDue(2); in.RestartAt.Sub(c.Now()) != 2*time.Second {
		t.Errorf("after a crash: %+v", in)
	}
}

func TestALongRunForgetsTheFailuresBeforeIt(t *testing.T) {
	w, c := timedWorld(t)
	w.create(policy(api.RestartAlways, "sleep"))
	for n := range uint64(3) {
		w.awaitStart(n + 1)
		if err := w.Signal(t.Context(), "web", 15); err != nil {
			t.Fatal(err)
		}
		w.awaitDue(n + 1)
		c.advance(time.Minute)
	}
	w.awaitStart(4)
	c.advance(time.Minute)
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Fatal(err)
	}
	if in := w.awaitDue(4); in.RestartAt.Sub(c.Now()) != time.Second || in.RestartCount != 3 {
		t.Errorf("after a long run: %+v", in)
	}
}

func TestWhatAUserStoppedStaysSo(t *testing.T) {
	for name, stop := range map[string]func(*world) error{
		"stopped":           func(w *world) error { _, err := w.Stop(w.t.Context(), "web"); return err },
		"disabled":          func(w *world) error { _, err := w.Disable(w.t.Context(), "web"); return err },
		"disabled, enabled": disableAndEnable,
		"stopped in a pause": func(w *world) error {
			w.Pause(w.t.Context(), "web")
			_, err := w.Stop(w.t.Context(), "web")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, c := timedWorld(t)
			w.create(policy(api.RestartAlways, "sleep"))
			w.awaitStart(1)
			if err := stop(w); err != nil {
				t.Fatal(err)
			}
			c.advance(time.Hour)
			w.restart()
			c.advance(time.Hour)
			if in, err := w.Get(t.Context(), "web"); err != nil || in.Phase != api.PhaseStopped || in.RestartAt != nil || in.Starts != 1 {
				t.Errorf("an hour later: %+v, %v", in, err)
			}
		})
	}
}

func disableAndEnable(w *world) error {
	if _, err := w.Disable(w.t.Context(), "web"); err != nil {
		return err
	}
	_, err := w.Enable(w.t.Context(), "web")
	return err
}

func TestAStopIsRememberedByADaemonThatIsKilledDuringIt(t *testing.T) {
	w, c := timedWorld(t)
	w.machines.hold = make(chan struct{})
	w.create(policy(api.RestartAlways, "sleep"))
	w.awaitStart(1)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		w.Stop(t.Context(), "web")
	}()
	w.awaitPhase("web", api.PhaseStopping)
	closed := make(chan struct{})
	go func() { w.kill(); close(closed) }() // it waits for the call that is held
	<-stopped                               // with an error: the service closes
	close(w.machines.hold)
	<-closed
	w.machines.hold = nil
	w.start()
	w.awaitPhase("web", api.PhaseStopped)
	c.advance(time.Hour)
	if in, err := w.Get(t.Context(), "web"); err != nil || in.RestartAt != nil || in.Starts != 1 {
		t.Errorf("after the restart: %+v, %v", in, err)
	}
}

func TestARestartThatIsDueOutlivesTheDaemon(t *testing.T) {
	w, c := timedWorld(t)
	w.create(policy(api.RestartAlways, "exit", "0"))
	before := w.awaitDue(1)
	w.kill()
	c.advance(time.Hour)
	w.start()
	in := w.await("web", "the next start", func(in api.Instance, _ error) bool { return in.Starts > 1 })
	if in.RestartCount != 1 || in.ID != before.ID {
		t.Errorf("started again: %+v", in)
	}
}

func TestRebootOfTheHost(t *testing.T) {
	for p, again := range map[api.RestartPolicy]bool{
		api.RestartNever: false, api.RestartOnFailure: false, api.RestartOnDemand: false, api.RestartAlways: true,
	} {
		w, c := timedWorld(t)
		w.create(policy(p, "sleep"))
		w.awaitStart(1)
		w.kill()
		w.machines.reboot()
		w.hostBoot = "boot-2"
		w.start()
		in := w.awaitPhase("web", api.PhaseStopped)
		if (in.RestartAt != nil) != again || in.LastError != "" {
			t.Errorf("%s: after the reboot: %+v", p, in)
		}
		if again {
			c.advance(time.Second)
			w.awaitStart(2)
		}
	}
}

func TestARestartThatDoesNotFitIsAFailedOne(t *testing.T) {
	w, c := timedWorld(t)
	w.create(policy(api.RestartAlways, "exit", "0"))
	w.awaitDue(1)
	big := w.create(api.InstanceSpec{Command: []string{"sleep"}, MemoryMB: 16384})
	w.awaitPhase(big.ID, api.PhaseRunning)
	c.advance(time.Second)
	in := w.await("web", "a refusal", func(in api.Instance, _ error) bool { return in.Phase == api.PhaseFailed })
	if in.RestartAt == nil || in.RestartAt.Sub(c.Now()) != 2*time.Second || !strings.Contains(in.LastError, "memory of 512 MiB") || in.Starts != 1 {
		t.Errorf("refused: %+v", in)
	}
	if err := w.Delete(t.Context(), big.ID); err != nil {
		t.Fatal(err)
	}
	c.advance(2 * time.Second)
	w.await("web", "the next start", func(in api.Instance, _ error) bool { return in.Starts == 2 })
}
