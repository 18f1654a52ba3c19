package instance_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// drowsy is a world with an instance that runs and a clock of the test's.
func drowsy(t *testing.T, policy api.IdlePolicy) (*world, *clock) {
	t.Helper()
	w, clock := timedWorld(t)
	spec := web()
	spec.Idle = policy
	w.create(spec)
	w.awaitPhase("web", api.PhaseRunning)
	return w, clock
}

// awaitSleep waits until what is told of the sleep of web is as wanted.
func (w *world) awaitSleep(what string, want func(api.Sleep) bool) api.Sleep {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	for {
		in, changed := w.Watched("web")
		if in.Sleep != nil && want(*in.Sleep) {
			return *in.Sleep
		}
		select {
		case <-changed:
		case <-ctx.Done():
			w.t.Fatalf("waiting for %s: %+v", what, in.Sleep)
		}
	}
}

// idle lets the clock go to where the next step is due; half-way is called when
// the guest was asked the first time.
func (w *world) idle(c *clock, halfway ...func()) {
	w.t.Helper()
	due := *w.awaitSleep("a next step", func(s api.Sleep) bool { return s.NextAt != nil }).NextAt
	look := c.awaitTimer(w.t, "the first look", func(at time.Time) bool { return at.Before(due) })
	c.advance(look.Sub(c.Now()))
	c.awaitTimer(w.t, "the second look", due.Equal)
	for _, f := range halfway {
		f()
	}
	c.advance(due.Sub(c.Now()))
}

func TestAnInstanceThatNobodyUsesIsPaused(t *testing.T) {
	w, clock := drowsy(t, "")
	events, err := w.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	machine := w.machine("web")
	next := w.awaitSleep("a next step", func(s api.Sleep) bool { return s.NextAt != nil })
	if in := next.NextAt.Sub(clock.Now()); next.Next != api.PhasePaused || in <= 50*time.Second || in > time.Minute {
		t.Errorf("the next step is %s in %v", next.Next, in)
	}
	clock.advance(45 * time.Second)
	if machine.Asked() != 0 {
		t.Error("the guest was asked long before its time")
	}
	w.idle(clock)
	in := w.awaitPhase("web", api.PhasePaused)
	if !strings.Contains(in.Sleep.Reason, "nobody used it for 1m") || machine.Asked() != 2 {
		t.Errorf("asleep: %+v, asked %d times", in.Sleep, machine.Asked())
	}
	w.call("signal")
	if in := w.awaitPhase("web", api.PhaseRunning); in.Sleep.Reason != "a signal" {
		t.Errorf("awake: %+v", in.Sleep)
	}
	var told []string
	for ev := range events {
		if ev.Type == api.EventPaused || ev.Type == api.EventWoken {
			told = append(told, ev.Type+" "+ev.Message)
		}
		if ev.Type == api.EventWoken {
			break
		}
	}
	if all := strings.Join(told, "; "); !strings.HasPrefix(all, "instance.paused nobody used it for 1m") || !strings.Contains(all, "; instance.woken a signal (") {
		t.Errorf("told: %s", all)
	}
}

func TestWhatKeepsAnInstanceAwake(t *testing.T) {
	for name, use := range map[string]func(*world) (end func()){
		"an exec": func(w *world) func() {
			_, s, err := w.Exec(w.t.Context(), "web", api.ExecSpec{Command: []string{"sleep"}})
			if err != nil {
				w.t.Fatal(err)
			}
			return s.Close
		},
		"a connection": func(w *world) func() {
			in, err := w.Get(w.t.Context(), "web")
			if err != nil {
				w.t.Fatal(err)
			}
			a, err := w.Wake(w.t.Context(), in.ID, false)
			if err != nil {
				w.t.Fatal(err)
			}
			return a.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, clock := drowsy(t, "pause=10s")
			end := use(w)
			s := w.awaitSleep("a use", func(s api.Sleep) bool { return len(s.InUse) == 1 })
			clock.advance(time.Hour)
			if s.NextAt != nil || w.machine("web").Asked() != 0 {
				t.Errorf("the next step is due at %v; asked %d times", s.NextAt, w.machine("web").Asked())
			}
			end()
			w.awaitSleep("the end of the use", func(s api.Sleep) bool { return len(s.InUse) == 0 && s.NextAt != nil })
			w.idle(clock)
			w.awaitPhase("web", api.PhasePaused)
		})
	}
}

func TestWhatAGuestDoesKeepsItAwakeAsLongAsItsBudgetSays(t *testing.T) {
	w, clock := drowsy(t, "pause=10s,budget=25s")
	machine, began := w.machine("web"), clock.Now()
	work := func() { machine.Work(uint64(time.Minute), 0) }
	for range 2 {
		w.idle(clock, work)
		w.awaitSleep("an obstacle", func(s api.Sleep) bool { return s.Obstacle != "" && s.NextAt.After(clock.Now()) })
	}
	s := w.awaitSleep("the end of its budget", func(s api.Sleep) bool { return s.NextAt != nil })
	if got := s.NextAt.Sub(began).Round(time.Second); got != 25*time.Second || s.Next != api.PhasePaused {
		t.Errorf("it is to be %s after %v", s.Next, got)
	}
	work()
	clock.advance(s.NextAt.Sub(clock.Now()))
	in := w.awaitPhase("web", api.PhasePaused)
	if in.Sleep.Reason != "nobody but its own programs used it for 25s" {
		t.Errorf("asleep: %+v", in.Sleep)
	}
	w.call("signal") // who uses it gives it all of its budget again
	w.awaitPhase("web", api.PhaseRunning)
	w.idle(clock, work)
	w.awaitSleep("an obstacle", func(s api.Sleep) bool { return s.Obstacle != "" })
}

func TestAGuestAtWorkStaysAwake(t *testing.T) {
	for what, work := range map[string]struct{ cpu, network uint64 }{
		"programs used": {cpu: uint64(time.Second)}, "its network carried": {network: 1 << 20},
	} {
		w, clock := drowsy(t, "pause=10s")
		w.idle(clock, func() { w.machine("web").Work(work.cpu, work.network) })
		s := w.awaitSleep("an obstacle", func(s api.Sleep) bool { return s.Obstacle != "" })
		if !strings.Contains(s.Obstacle, what) {
			t.Errorf("obstacle: %s", s.Obstacle)
		}
		w.idle(clock)
		w.awaitPhase("web", api.PhasePaused)
	}
}

func TestOnlyLeasesMatterWhereThePolicySaysSo(t *testing.T) {
	w, clock := drowsy(t, "leases_only,pause=10s")
	w.awaitSleep("a next step", func(s api.Sleep) bool { return s.NextAt != nil })
	clock.advance(11 * time.Second)
	w.awaitPhase("web", api.PhasePaused)
	if n := w.machine("web").Asked(); n != 0 {
		t.Errorf("the guest was asked %d times", n)
	}
}

func TestAnInstanceThatNeverSleeps(t *testing.T) {
	w, clock := drowsy(t, "never")
	s := w.awaitSleep("the reason", func(s api.Sleep) bool { return s.Obstacle != "" })
	clock.advance(24 * time.Hour)
	w.call("signal")
	in, err := w.Get(t.Context(), "web")
	if err != nil || in.Phase != api.PhaseRunning || s.NextAt != nil {
		t.Errorf("it is %s, %v; next at %v", in.Phase, err, s.NextAt)
	}
}

func TestAnInstanceThatCannotBePausedStaysAwakeAndSaysWhy(t *testing.T) {
	w, clock := timedWorld(t)
	w.machines.driver.Behave(fake.Behaviour{RefusePause: errors.New("not today")})
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	w.idle(clock)
	s := w.awaitSleep("an obstacle", func(s api.Sleep) bool { return s.Obstacle != "" })
	if !strings.Contains(s.Obstacle, "not today") || s.NextAt == nil || s.NextAt.Sub(clock.Now()) < 50*time.Second {
		t.Errorf("told: %+v", s)
	}
	w.call("signal")
}

func TestAnIdlePauseOutlivesTheDaemon(t *testing.T) {
	w, clock := drowsy(t, "pause=10s")
	w.idle(clock)
	before := w.awaitPhase("web", api.PhasePaused).Sleep
	w.restart()
	after := w.awaitSleep("the reason", func(s api.Sleep) bool { return s.Reason != "" })
	if after.Reason != before.Reason || !after.Since.Equal(*before.Since) {
		t.Errorf("told %+v, before the restart %+v", after, before)
	}
}

func TestAProgramWhoseClientOutlivedTheDaemonKeepsItsInstanceAwake(t *testing.T) {
	w, clock := drowsy(t, "pause=10s")
	_, s, err := w.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"cat"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.awaitSleep("a use", func(s api.Sleep) bool { return len(s.InUse) == 1 })
	clock.advance(time.Hour)
	if in, err := w.Get(t.Context(), "web"); err != nil || in.Phase != api.PhaseRunning || in.Sleep.NextAt != nil {
		t.Errorf("it is %+v, %v", in, err)
	}
	if _, err := w.Hibernate(t.Context(), "web"); api.CodeOf(err) != api.BadState {
		t.Errorf("hibernate: %v", err)
	}
	s.Close()
	w.awaitSleep("the end of the use", func(s api.Sleep) bool { return len(s.InUse) == 0 })
	w.idle(clock)
	w.awaitPhase("web", api.PhasePaused)
}
