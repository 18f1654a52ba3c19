package instance_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

func TestRunPrintsAndLeavesNothing(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("echo", "hello"))
	if in.Phase != api.PhaseStarting || in.MemoryMB != 512 || in.VCPUs != 1 || in.OwnerUID != 1000 {
		t.Errorf("created instance is %+v", in)
	}
	s := w.attach(in.ID)
	if got := readAll(t, s.Stdout); got != "hello\n" {
		t.Errorf("stdout is %q", got)
	}
	st, err := proto.ReadStatus(s.Status)
	if err != nil || st.Code != 0 {
		t.Errorf("status is %+v, %v", st, err)
	}
	s.Session.Close()
	w.awaitGone(in.ID)
}

func TestHowAProgramEndsIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		command []string
		want    proto.ProcessStatus
	}{
		"a code":             {[]string{"exit", "3"}, proto.ProcessStatus{Code: 3}},
		"a signal":           {[]string{"kill", "9"}, proto.ProcessStatus{Code: 137, Signal: 9}},
		"an unknown command": {[]string{"nosuch"}, proto.ProcessStatus{Code: 127, Message: "nosuch: not found"}},
		"a folder":           {[]string{"/"}, proto.ProcessStatus{Code: 126, Message: "/: permission denied"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			in := w.create(run(c.command...))
			s := w.attach(in.ID)
			st, err := proto.ReadStatus(s.Status)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, st); diff != "" {
				t.Errorf("status: %s", diff)
			}
			got := w.await(in.ID, "an exit code", func(in api.Instance, err error) bool { return in.ExitCode != nil })
			if *got.ExitCode != c.want.Code || got.ExitSignal != c.want.Signal || got.LastError != c.want.Message {
				t.Errorf("record says code %d signal %d %q", *got.ExitCode, got.ExitSignal, got.LastError)
			}
			s.Close()
			w.awaitGone(in.ID)
		})
	}
}

func TestDeathOfTheClientTearsARunDown(t *testing.T) {
	w := newWorld(t)
	in := w.create(run("sleep"))
	w.attach(in.ID).Close()
	w.awaitGone(in.ID)
}

func TestClientThatNeverAttachesIsNotWaitedForForEver(t *testing.T) {
	w := newWorld(t)
	w.impatient()
	in := w.create(run("sleep"))
	w.awaitGone(in.ID)
}

func TestClientThatGoesDuringTheBootTearsARunDown(t *testing.T) {
	w := newWorld(t)
	w.impatient()
	w.machines.driver.Behave(fake.Behaviour{NeverReady: true})
	in := w.create(run("sleep"))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := w.Attach(ctx, in.ID)
		gone <- err
	}()
	w.awaitMachine(in)
	cancel()
	if err := <-gone; api.CodeOf(err) != api.Unavailable {
		t.Errorf("attach: %v", err)
	}
	w.awaitGone(in.ID)
}

func TestAttachTellsWhyAStartFailed(t *testing.T) {
	w := newWorld(t)
	w.machines.driver.Behave(fake.Behaviour{PanicAtBoot: "no init"})
	in := w.create(run("echo"))
	_, err := w.Attach(t.Context(), in.ID)
	if api.CodeOf(err) != api.Unavailable || !contains(err, "no init") {
		t.Errorf("attach: %v", err)
	}
	w.awaitGone(in.ID)
}

func TestDeleteWhileStartingLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.machines.driver.Behave(fake.Behaviour{NeverReady: true})
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(in.ID)
}
