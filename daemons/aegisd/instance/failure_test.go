package instance_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

func TestMachineThatDiesIsNoticedWithItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		kill func(*world, *fake.Machine)
		want string
	}{
		"monitor killed": {func(_ *world, m *fake.Machine) { m.Crash("killed by signal 9") }, "monitor died: killed by signal 9"},
		"guest panics":   {func(_ *world, m *fake.Machine) { m.Panic("Attempted to kill init!") }, "panicked: Kernel panic - not syncing: Attempted to kill init!"},
		"without a trace": {func(w *world, _ *fake.Machine) {
			w.machines.reboot()
			w.machines.breakWatches()
		}, "worker died"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := w.create(run("sleep"))
			s := w.attach(in.ID)
			began := time.Now()
			c.kill(w, w.machine(in.ID))
			// A monitor that is killed may reset its sockets instead of closing them.
			if _, err := io.Copy(io.Discard, s.Stdout); err != nil && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("reading what is left: %v", err)
			}
			if st, err := proto.ReadStatus(s.Status); err == nil {
				t.Errorf("there is a status: %+v", st)
			}
			readAll(t, s.Session) // ends when the record tells
			got := w.awaitPhase(in.ID, api.PhaseFailed)
			if took := time.Since(began); took > time.Second {
				t.Errorf("noticed after %s", took)
			}
			if !strings.Contains(got.LastError, c.want) || got.ExitCode != nil || got.Machine != "" {
				t.Errorf("record: %+v", got)
			}
			s.Close()
			w.awaitGone(in.ID)
		})
	}
}

func TestFailedStartsLeaveOnlyTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*world)
		code    api.Code
		want    string
	}{
		"panic at boot":  {behave(fake.Behaviour{PanicAtBoot: "no root"}), api.Unavailable, "no root"},
		"monitor dies":   {behave(fake.Behaviour{DieAtBoot: "signal 11"}), api.Unavailable, "signal 11"},
		"driver missing": {behave(fake.Behaviour{FailStart: errors.New("qemu is missing: install qemu-system-x86")}), api.Unavailable, "install qemu-system-x86"},
		"disk full": {func(w *world) {
			w.images.set(func(i *images) { i.full = api.Errorf(api.LimitExceeded, "disk is full") })
		}, api.LimitExceeded, "disk is full"},
		"broken image": {func(w *world) {
			w.images.set(func(i *images) {
				i.prepare = func(context.Context) error { return api.Errorf(api.InvalidArgument, "layer 2 is damaged") }
			})
		}, api.InvalidArgument, "layer 2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.prepare(w)
			in := w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "kept", Attach: true})
			_, err := w.Attach(t.Context(), in.ID)
			if api.CodeOf(err) != c.code || !contains(err, c.want) {
				t.Errorf("attach: %s %v", api.CodeOf(err), err)
			}
			got := w.awaitPhase("kept", api.PhaseFailed)
			if !strings.Contains(got.LastError, c.want) || got.Machine != "" {
				t.Errorf("record: %+v", got)
			}
			if infos, _ := w.machines.List(t.Context()); len(infos) > 0 {
				t.Errorf("machines left: %+v", infos)
			}
			w.machines.driver.Behave(fake.Behaviour{})
			w.images.set(func(i *images) { i.full, i.prepare = nil, nil })
			if _, err := w.Start(t.Context(), "kept"); err != nil {
				t.Fatalf("starting again: %v", err)
			}
			w.awaitPhase("kept", api.PhaseRunning)
			if err := w.Delete(t.Context(), "kept"); err != nil {
				t.Fatal(err)
			}
			w.awaitGone(in.ID)
		})
	}
}

func behave(b fake.Behaviour) func(*world) {
	return func(w *world) { w.machines.driver.Behave(b) }
}

// broken are records that cannot be written.
type broken struct {
	instance.Records
	insert, update, delete error
}

func (b *broken) Insert(ctx context.Context, r store.Record) error {
	if b.insert != nil {
		return b.insert
	}
	return b.Records.Insert(ctx, r)
}

func (b *broken) Update(ctx context.Context, id string, st store.Status) error {
	if b.update != nil {
		return b.update
	}
	return b.Records.Update(ctx, id, st)
}

func (b *broken) Delete(ctx context.Context, id string) error {
	if b.delete != nil {
		return b.delete
	}
	return b.Records.Delete(ctx, id)
}

func TestFullDatabaseRefusesWhatItCannotKeep(t *testing.T) {
	w, full := newWorld(t), &broken{}
	w.records = func(r instance.Records) instance.Records {
		full.Records = r
		return full
	}
	w.restart()
	full.insert = api.Errorf(api.LimitExceeded, "the disk is full")
	if _, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}}); api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("create: %v", err)
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
	full.insert = nil
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	full.delete = api.Errorf(api.LimitExceeded, "the disk is full")
	if err := w.Delete(t.Context(), in.ID); api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("delete: %v", err)
	}
	if got := w.awaitPhase(in.ID, api.PhaseFailed); !strings.Contains(got.LastError, "full") {
		t.Errorf("record after a delete that failed: %+v", got)
	}
	full.delete = nil
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Errorf("second delete: %v", err)
	}
	w.awaitGone(in.ID)
}

func TestStartThatCannotBeCommittedChangesNothing(t *testing.T) {
	w, full := newWorld(t), &broken{}
	w.records = func(r instance.Records) instance.Records {
		full.Records = r
		return full
	}
	w.restart()
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	if _, err := w.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	full.update = api.Errorf(api.LimitExceeded, "the disk is full")
	got, err := w.Start(t.Context(), in.ID)
	if api.CodeOf(err) != api.LimitExceeded || got.Phase != api.PhaseStopped {
		t.Errorf("start: %+v, %v", got, err)
	}
}

func TestTimeoutEndsAProgramWith124(t *testing.T) {
	t.Run("one that obeys", func(t *testing.T) {
		w := newWorld(t)
		spec := run("sleep")
		spec.TimeoutMS = 50
		s := w.attach(w.create(spec).ID)
		st, err := proto.ReadStatus(s.Status)
		if err != nil || st.Signal != 15 {
			t.Errorf("status: %+v, %v", st, err)
		}
		all, _ := w.List(t.Context())
		if len(all) != 1 || all[0].ExitCode == nil || *all[0].ExitCode != 124 || !strings.Contains(all[0].LastError, "timed out after 50ms") {
			t.Errorf("record: %+v", all)
		}
	})
	t.Run("one that does not", func(t *testing.T) {
		w := newWorld(t)
		w.machines.driver.Program("stubborn", stubborn)
		spec := api.InstanceSpec{Command: []string{"stubborn"}, TimeoutMS: 50}
		in := w.create(spec)
		got := w.awaitPhase(in.ID, api.PhaseStopped)
		if got.ExitCode == nil || *got.ExitCode != 124 || got.Machine != "" {
			t.Errorf("record: %+v", got)
		}
	})
}

func TestStopHasAGraceAndThenPullsThePlug(t *testing.T) {
	w := newWorld(t)
	w.timings.StopGrace = 50 * time.Millisecond
	w.restart()
	w.machines.driver.Program("stubborn", stubborn)
	in := w.create(api.InstanceSpec{Command: []string{"stubborn"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	got, err := w.Stop(t.Context(), in.ID)
	if err != nil || got.Phase != api.PhaseStopped || got.LastError != "" {
		t.Errorf("stop: %+v, %v", got, err)
	}
}

func TestDeleteDoesNotWaitForAGrace(t *testing.T) {
	w := newWorld(t)
	w.timings.StopGrace = time.Hour
	w.restart()
	w.machines.driver.Program("stubborn", stubborn)
	in := w.create(api.InstanceSpec{Command: []string{"stubborn"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	stopped := make(chan error, 1)
	go func() {
		_, err := w.Stop(t.Context(), in.ID)
		stopped <- err
	}()
	w.awaitPhase(in.ID, api.PhaseStopping)
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop under a delete: %v", err)
	}
	w.awaitGone(in.ID)
}

func TestStopWhileStartingCancelsTheStart(t *testing.T) {
	w := newWorld(t)
	w.images.set(func(i *images) {
		i.prepare = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	got, err := w.Stop(t.Context(), in.ID)
	if err != nil || got.Phase != api.PhaseStopped || got.LastError != "" {
		t.Errorf("stop: %+v, %v", got, err)
	}
	w.images.set(func(i *images) { i.prepare = nil })
	if _, err := w.Start(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase(in.ID, api.PhaseRunning)
}

func TestManagerThatIsAwayForAMomentHoldsUpAReleaseOnly(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	w.machines.setDown(api.Errorf(api.Unavailable, "vmmd is being started again"))
	deleted := make(chan error, 1)
	go func() { deleted <- w.Delete(t.Context(), in.ID) }()
	<-w.machines.refused
	w.machines.setDown(nil)
	if err := <-deleted; err != nil {
		t.Errorf("delete: %v", err)
	}
	if left := w.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestManagerThatIsDownFailsTheStartAndLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.timings.CallTimeout = 300 * time.Millisecond
	w.restart()
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	w.machines.setDown(api.Errorf(api.Unavailable, "vmmd does not answer"))
	w.machines.breakWatches()
	if err := w.Delete(t.Context(), in.ID); !contains(err, "vmmd does not answer") {
		t.Errorf("delete: %v", err)
	}
	if got := w.awaitPhase(in.ID, api.PhaseFailed); got.Machine == "" {
		t.Errorf("the record forgot its machine: %+v", got)
	}
	st, err := w.Status(t.Context())
	if err != nil {
		t.Errorf("status: %+v, %v", st, err)
	}
	w.machines.setDown(nil)
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Errorf("second delete: %v", err)
	}
	w.awaitGone(in.ID)
}

func TestWatchIsResumedAndFindsWhatEndedMeanwhile(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	w.machines.breakWatches()
	w.machine(in.ID).Crash("while nobody looked")
	if got := w.awaitPhase(in.ID, api.PhaseFailed); !strings.Contains(got.LastError, "while nobody looked") {
		t.Errorf("record: %+v", got)
	}
}

func TestImageAndSpecMakeTheEnvironment(t *testing.T) {
	w := newWorld(t)
	w.images.set(func(i *images) {
		i.config = image.Config{Env: []string{"PATH=/opt", "A=image", "B=image", "odd"}, Entrypoint: []string{"env"}, Cmd: []string{"ignored"}}
	})
	spec := run("x")
	spec.Env = map[string]string{"B": "spec", "C": ""}
	if got, want := readAll(t, w.attach(w.create(spec).ID).Stdout), "A=image\nB=spec\nC=\nPATH=/opt\n"; got != want {
		t.Errorf("environment is %q, want %q", got, want)
	}
}

func TestIdentityIsTheInstances(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	w.awaitPhase(in.ID, api.PhaseRunning)
	first := w.machine(in.ID).Identity()
	if _, err := w.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Start(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitPhase(in.ID, api.PhaseRunning)
	second := w.machine(in.ID).Identity()
	if first.GetHostname() != "web" || first.GetInstanceId() != in.ID || len(first.GetMachineId()) != 32 || first.GetUnixNano() == 0 {
		t.Errorf("identity: %v", first)
	}
	if first.GetMachineId() != second.GetMachineId() || string(first.GetEntropy()) == string(second.GetEntropy()) {
		t.Errorf("identity of the second start: %v, of the first %v", second, first)
	}
}

var _ vmm.Manager = (*machines)(nil)
