package instance_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// printed is what the program of web has printed, a line each.
func (w *world) printed() (lines []string) {
	w.t.Helper()
	stream, err := w.Logs(w.t.Context(), "web", api.LogQuery{Source: api.LogServer})
	if err != nil {
		w.t.Fatal(err)
	}
	defer stream.Close()
	for {
		entries, err := stream.Next()
		for _, e := range entries {
			lines = append(lines, e.Line)
		}
		if err != nil || len(entries) == 0 {
			return lines
		}
	}
}

// awaitPrinted waits until it has printed a line.
func (w *world) awaitPrinted(line string) {
	w.t.Helper()
	stream, err := w.Logs(w.t.Context(), "web", api.LogQuery{Source: api.LogServer, Follow: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer stream.Close()
	for {
		entries, err := stream.Next()
		for _, e := range entries {
			if e.Line == line {
				return
			}
		}
		if err != nil {
			w.t.Fatalf("waiting for %q: %v", line, err)
		}
	}
}

// hibernating is a world with web on disk.
func hibernating(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	w.awaitPrinted("ready")
	w.call("hibernate")
	return w
}

// wantAlive checks that the program of web is the one that was started first.
func (w *world) wantAlive() {
	w.t.Helper()
	if err := w.Signal(w.t.Context(), "web", 10); err != nil {
		w.t.Fatal(err)
	}
	w.awaitPrinted("signal 10")
	in, err := w.Get(w.t.Context(), "web")
	if got := strings.Join(w.printed(), ","); err != nil || in.Starts != 1 || got != "ready,signal 10" {
		w.t.Errorf("it printed %s; %+v, %v", got, in, err)
	}
}

func TestAHibernatedInstanceHasNoMachineAndGoesOnWithItsProgram(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	before := w.awaitPhase("web", api.PhaseRunning)
	w.awaitPrinted("ready")
	entropy := w.machine("web").Identity().GetEntropy()
	w.call("hibernate")
	in, err := w.Get(t.Context(), "web")
	infos, _ := w.machines.List(t.Context())
	if err != nil || in.Phase != api.PhaseHibernated || in.State != api.StatePaused || in.Machine != "" || len(infos) != 0 {
		t.Fatalf("hibernated: %+v, %v; machines %v", in, err, infos)
	}
	if in.Sleep == nil || in.Sleep.Reason != "a user hibernated it" || in.Sleep.SnapshotBytes != 3<<20 {
		t.Errorf("told of its sleep: %+v", in.Sleep)
	}
	if state, err := w.NetworkState(t.Context(), "web"); err != nil || state.Address == "" {
		t.Errorf("its network is %+v, %v", state, err)
	}
	address := w.address()
	w.wantAlive()
	in, err = w.Get(t.Context(), "web")
	if err != nil || in.Phase != api.PhaseRunning || in.Machine == before.Machine || !in.StartedAt.Equal(*before.StartedAt) {
		t.Errorf("awake: %+v, %v", in, err)
	}
	if told := w.machine("web").Identity().GetEntropy(); bytes.Equal(told, entropy) {
		t.Error("its guest has the same random numbers again")
	}
	if now := w.address(); now != address {
		t.Errorf("its address was %s and is %s", address, now)
	}
	w.awaitNoSnapshot()
	w.call("delete")
	w.awaitGone(in.ID)
}

func (w *world) address() string {
	w.t.Helper()
	state, err := w.NetworkState(w.t.Context(), "web")
	if err != nil {
		w.t.Fatal(err)
	}
	return state.Address
}

// awaitNoSnapshot waits until those that nobody needs are gone.
func (w *world) awaitNoSnapshot() {
	w.t.Helper()
	for {
		all, err := w.machines.Snapshots(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if len(all) == 0 {
			return
		}
		<-w.machines.forgot
	}
}

func TestTheLadderLeadsDownToTheDisk(t *testing.T) {
	w, clock := drowsy(t, "pause=10s,hibernate=20s")
	w.idle(clock)
	w.awaitPhase("web", api.PhasePaused)
	next := w.awaitSleep("a next step", func(s api.Sleep) bool { return s.NextAt != nil })
	if next.Next != api.PhaseHibernated || next.NextAt.Sub(clock.Now()) != 20*time.Second {
		t.Errorf("next is %+v", next)
	}
	clock.awaitTimer(t, "hibernation", next.NextAt.Equal)
	clock.advance(20 * time.Second)
	in := w.awaitPhase("web", api.PhaseHibernated)
	if in.Sleep.Reason != "nobody used it for 20s" {
		t.Errorf("asleep: %+v", in.Sleep)
	}
	w.call("signal")
	w.awaitPhase("web", api.PhaseRunning)
}

func TestAHibernatedInstanceOutlivesDaemonAndHost(t *testing.T) {
	w := hibernating(t)
	w.restart()
	w.awaitPhase("web", api.PhaseHibernated)
	w.kill()
	w.machines.reboot()
	w.hostBoot = "boot-2"
	w.start()
	w.awaitPhase("web", api.PhaseHibernated)
	w.wantAlive()
}

func TestManyWhoNeedAHibernatedInstanceWakeItOnce(t *testing.T) {
	w := hibernating(t)
	in, err := w.Get(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	var starts int
	var mu sync.Mutex
	w.machines.befall(func(step string) error {
		mu.Lock()
		defer mu.Unlock()
		if step == "start" {
			starts++
		}
		return nil
	})
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			var err error
			switch i % 4 {
			case 0:
				_, err = w.Start(t.Context(), "web")
			case 1:
				_, err = w.Resume(t.Context(), "web")
			case 2:
				err = w.Signal(t.Context(), "web", 12)
			default:
				a, werr := w.Wake(t.Context(), in.ID, false)
				if err = werr; err == nil {
					a.Close()
				} else if api.CodeOf(err) == api.LimitExceeded {
					err = nil // more leases than a router has
				}
			}
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	all.Wait()
	if starts != 1 {
		t.Errorf("%d machines were started", starts)
	}
}

func TestWhatIsInUseIsNotHibernated(t *testing.T) {
	w := newWorld(t)
	w.create(web())
	w.awaitPhase("web", api.PhaseRunning)
	_, s, err := w.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"sleep"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := w.Hibernate(t.Context(), "web"); api.CodeOf(err) != api.BadState || !contains(err, "clients of execs") {
		t.Errorf("hibernate: %v", err)
	}
	w.awaitPhase("web", api.PhaseRunning)
}

func TestAMachineThatCannotBeSavedStaysPausedAndSaysWhy(t *testing.T) {
	w, clock := drowsy(t, "pause=10s,hibernate=20s")
	w.machines.befall(func(step string) error {
		if step == "snapshot" {
			return api.Errorf(api.LimitExceeded, "the disk is full: make room")
		}
		return nil
	})
	w.idle(clock)
	w.awaitPhase("web", api.PhasePaused)
	due := *w.awaitSleep("a next step", func(s api.Sleep) bool { return s.NextAt != nil }).NextAt
	clock.awaitTimer(t, "hibernation", due.Equal)
	clock.advance(due.Sub(clock.Now()))
	s := w.awaitSleep("an obstacle", func(s api.Sleep) bool { return s.Obstacle != "" })
	if !strings.Contains(s.Obstacle, "make room") || s.Next != api.PhaseHibernated {
		t.Errorf("told: %+v", s)
	}
	if in, _ := w.Get(t.Context(), "web"); in.Phase != api.PhasePaused {
		t.Errorf("it is %s", in.Phase)
	}
	w.call("signal")
}

func TestAWakeThatFailsLeavesTheInstanceOnDisk(t *testing.T) {
	w := hibernating(t)
	w.machines.befall(func(step string) error {
		if step == "start" {
			return api.Errorf(api.Internal, "the monitor does not like it")
		}
		return nil
	})
	if _, err := w.Resume(t.Context(), "web"); !contains(err, "does not like it") {
		t.Errorf("resume: %v", err)
	}
	in, err := w.Get(t.Context(), "web")
	if err != nil || in.Phase != api.PhaseHibernated || !strings.Contains(in.Sleep.Obstacle, "does not like it") {
		t.Errorf("it is %+v, %v", in, err)
	}
	w.machines.befall(nil)
	w.wantAlive()
}

func TestASnapshotThatAnotherMonitorCannotReadIsGivenUp(t *testing.T) {
	w := hibernating(t)
	events, err := w.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.machines.mu.Lock()
	w.machines.version = "2"
	w.machines.mu.Unlock()
	var once sync.Once
	w.machines.befall(func(step string) (err error) {
		if step == "start" {
			once.Do(func() { err = api.Errorf(api.Internal, "the monitor does not like it") })
		}
		return err
	})
	if err := w.Signal(t.Context(), "web", 10); err != nil {
		t.Fatal(err)
	}
	in := w.awaitPhase("web", api.PhaseRunning)
	if in.Starts != 2 || !strings.Contains(in.Sleep.Reason, "fake 1 none has written its memory") {
		t.Errorf("started anew: %+v %+v", in, in.Sleep)
	}
	for ev := range events {
		if ev.Type == api.EventLost {
			break
		}
	}
	w.awaitNoSnapshot()
	w.call("delete")
	w.awaitGone(in.ID)
}

func TestANewMonitorThatReadsTheSnapshotLosesNothing(t *testing.T) {
	w := hibernating(t)
	w.machines.mu.Lock()
	w.machines.version = "2"
	w.machines.mu.Unlock()
	w.wantAlive()
}

// How it ended may stay unknown: it can be gone before somebody waits for it again.
func TestAProgramThatSleptIsToldToEnd(t *testing.T) {
	w := hibernating(t)
	w.call("stop")
	in := w.awaitPhase("web", api.PhaseStopped)
	if got := strings.Join(w.printed(), ","); got != "ready,signal 15" || in.ExitCode != nil && *in.ExitCode != 0 {
		t.Errorf("it printed %s and ended with %v", got, in.ExitCode)
	}
	w.awaitNoSnapshot()
}

func TestASnapshotThatIsGoneIsSaidPlainly(t *testing.T) {
	w := hibernating(t)
	w.kill()
	for id := range w.machines.saved {
		w.machines.RemoveSnapshot(t.Context(), id)
	}
	w.start()
	if in := w.awaitPhase("web", api.PhaseFailed); !strings.Contains(in.LastError, "its snapshot s-") {
		t.Errorf("failed: %s", in.LastError)
	}
}

func TestAHibernatedProgramRunsOutOfTime(t *testing.T) {
	w, clock := timedWorld(t)
	spec := web()
	spec.TimeoutMS = 60_000
	w.create(spec)
	w.awaitPhase("web", api.PhaseRunning)
	w.call("hibernate")
	soon := clock.Now().Add(50 * time.Second)
	clock.awaitTimer(t, "the end of its time", func(at time.Time) bool { return at.After(soon) })
	clock.advance(time.Minute)
	w.awaitPhase("web", api.PhaseRunning)
}

var _ vmm.Manager = (*machines)(nil)
