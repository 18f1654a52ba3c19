package instance_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// stubborn ignores every signal but the last.
func stubborn(ctx context.Context, p *program.Proc) int {
	p.Catch()
	<-ctx.Done()
	return 1
}

func TestKilledDaemonFindsItsMachinesAgain(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"trap"}, Handle: "web"})
	before := w.awaitPhase("web", api.PhaseRunning)
	w.restart()
	after, err := w.Get(t.Context(), "web")
	if err != nil || after.Machine != before.Machine || after.Phase != api.PhaseRunning || !after.StartedAt.Equal(*before.StartedAt) {
		t.Fatalf("after the restart: %+v, %v; before %+v", after, err, before)
	}
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Fatal(err)
	}
	got := w.awaitPhase("web", api.PhaseStopped)
	if got.ExitCode == nil || *got.ExitCode != 0 {
		t.Errorf("record: %+v", got)
	}
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(in.ID)
}

func TestStreamsOutliveTheDaemonThatHandedThemOut(t *testing.T) {
	w := newWorld(t)
	spec := run("cat")
	spec.Stdin = true
	in := w.create(spec)
	s := w.attach(in.ID)
	w.restartWithin(2 * time.Second)
	stillThere(t, s)
	if got := readAll(t, s.Session); got != "" {
		t.Errorf("session says %q", got)
	}
	w.awaitGone(in.ID) // the client could not say that it is done
}

func TestAManagerThatIsAwayLosesNoProgram(t *testing.T) {
	w := newWorld(t)
	w.create(api.InstanceSpec{Command: []string{"trap"}, Handle: "web"})
	before := w.awaitPhase("web", api.PhaseRunning)
	w.timings.Retry = time.Millisecond
	w.machines.setMute(api.Errorf(api.Unavailable, "vmmd is being started again"))
	w.restart()
	for range 17 { // two calls to a try
		<-w.machines.refused
	}
	w.machines.setMute(nil)
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Fatal(err)
	}
	after := w.awaitPhase("web", api.PhaseStopped)
	if after.ExitCode == nil || *after.ExitCode != 0 || !after.StartedAt.Equal(*before.StartedAt) {
		t.Errorf("record: %+v", after)
	}
}

func TestDaemonThatStartsRemovesWhatNobodyOwns(t *testing.T) {
	w := newWorld(t)
	w.images.CreateDisk(t.Context(), "inst-orphan", image.DiskSize)
	if _, err := w.machines.Start(t.Context(), vmm.Spec{ID: "m-orphan"}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if left := w.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestDaemonKilledDuringAStart(t *testing.T) {
	for name, c := range map[string]struct {
		spec api.InstanceSpec
		want api.Phase // "" for gone
	}{
		"starts it again":                  {api.InstanceSpec{Command: []string{"sleep"}}, api.PhaseRunning},
		"starts a job again":               {api.InstanceSpec{Command: []string{"sleep"}, AutoRemove: true}, api.PhaseRunning},
		"tells why streams are gone":       {api.InstanceSpec{Command: []string{"sleep"}, Attach: true}, api.PhaseFailed},
		"removes what a lost client began": {run("sleep"), ""},
	} {
		for stage, b := range map[string]fake.Behaviour{"booting": {NeverReady: true}, "preparing": {}} {
			t.Run(name+" when "+stage, func(t *testing.T) {
				w := newWorld(t)
				w.machines.driver.Behave(b)
				if stage == "preparing" {
					w.images.set(func(i *images) {
						i.prepare = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
					})
				}
				in := w.create(c.spec)
				if stage == "booting" {
					w.awaitMachine(in)
				}
				w.kill()
				w.machines.driver.Behave(fake.Behaviour{})
				w.images.set(func(i *images) { i.prepare = nil })
				w.start()
				if c.want == "" {
					w.awaitGone(in.ID)
					return
				}
				got := w.awaitPhase(in.ID, c.want)
				if c.want == api.PhaseFailed && !strings.Contains(got.LastError, "aegisd ended") {
					t.Errorf("record: %+v", got)
				}
				if infos, _ := w.machines.List(t.Context()); len(infos) > 1 {
					t.Errorf("machines: %+v", infos)
				}
			})
		}
	}
}

func TestAfterARebootEverythingIsStopped(t *testing.T) {
	w := newWorld(t)
	kept := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	job := w.create(api.InstanceSpec{Command: []string{"sleep"}, AutoRemove: true})
	w.awaitPhase(kept.ID, api.PhaseRunning)
	w.awaitPhase(job.ID, api.PhaseRunning)
	w.kill()
	w.machines.reboot()
	w.hostBoot = "boot-2"
	w.start()
	got := w.awaitPhase(kept.ID, api.PhaseStopped)
	if got.LastError != "" || got.Machine != "" {
		t.Errorf("record: %+v", got)
	}
	w.await(job.ID, "the end", func(_ api.Instance, err error) bool { return api.CodeOf(err) == api.NotFound })
}

func TestMachineThatEndedWhileTheDaemonWasDownIsTold(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	m := w.machine(in.ID)
	w.kill()
	m.Crash("killed by signal 9")
	w.awaitMachineEnd()
	w.start()
	got := w.awaitPhase(in.ID, api.PhaseFailed)
	if !strings.Contains(got.LastError, "killed by signal 9") {
		t.Errorf("record: %+v", got)
	}
	if infos, _ := w.machines.List(t.Context()); len(infos) > 0 {
		t.Errorf("machines left: %+v", infos)
	}
}

// awaitMachineEnd returns once the manager knows of an end.
func (w *world) awaitMachineEnd() {
	infos, err := w.machines.Watch(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for info := range infos {
		if info.State == vmm.StateEnded {
			return
		}
	}
}

func TestSecondDaemonIsKeptOut(t *testing.T) {
	w := newWorld(t)
	first := w.Service
	if err := w.tryStart(); api.CodeOf(err) != api.Unavailable || !contains(err, "another aegisd") {
		t.Errorf("second start: %v", err)
	}
	if w.Service != first {
		t.Error("the second service runs")
	}
}

func TestManyRunsLeaveNothing(t *testing.T) {
	w := newWorld(t)
	for round := range 5 {
		done := make(chan error)
		for i := range 10 {
			go func() { done <- oneRun(w, fmt.Sprint(round, i)) }()
		}
		for range 10 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// oneRun is what `aegis run` does.
func oneRun(w *world, word string) error {
	in, err := w.Create(w.t.Context(), api.Caller{}, run("echo", word))
	if err != nil {
		return err
	}
	s, err := w.Attach(w.t.Context(), in.ID)
	if err != nil {
		return err
	}
	defer s.Close()
	out, err := io.ReadAll(s.Stdout)
	if err != nil || string(out) != word+"\n" {
		return fmt.Errorf("run %s printed %q, %w", word, out, err)
	}
	if _, err := proto.ReadStatus(s.Status); err != nil {
		return err
	}
	return w.Delete(w.t.Context(), in.ID)
}

// ended runs `cat` to its end while no aegisd is there; its client hears it.
func ended(t *testing.T, w *world) api.Instance {
	t.Helper()
	in := w.create(api.InstanceSpec{Command: []string{"cat"}, Attach: true, Stdin: true})
	s := w.attach(in.ID)
	w.kill()
	stillThere(t, s)
	return in
}

func TestAProgramThatEndedWhileTheDaemonWasDownEndsAsItDid(t *testing.T) {
	w := newWorld(t)
	w.timings.AttachGrace = 50 * time.Millisecond
	in := ended(t, w)
	w.start()
	got := w.awaitPhase(in.ID, api.PhaseStopped)
	if got.ExitCode == nil || *got.ExitCode != 0 || got.LastError != "" {
		t.Errorf("record: %+v", got)
	}
}

func TestAnEndThatNobodyKnowsAnyMoreIsToldAsThat(t *testing.T) {
	w := newWorld(t)
	in := ended(t, w)
	if !w.machines.driver.Machine(in.Machine).Forget("main") {
		t.Fatal("the guest has no such process")
	}
	w.start()
	got := w.awaitPhase(in.ID, api.PhaseFailed)
	if got.LastError != "the program has ended, how is not known: the guest has no record of its end any more" || got.ExitCode != nil {
		t.Errorf("record: %+v", got)
	}
}
