package instance_test

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// host is an instance that runs and does nothing.
func (w *world) host(handle string) api.Instance {
	w.t.Helper()
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: handle})
	return w.awaitPhase(handle, api.PhaseRunning)
}

func (w *world) exec(ref string, spec api.ExecSpec) (string, *api.Streams) {
	w.t.Helper()
	id, streams, err := w.Exec(w.t.Context(), ref, spec)
	if err != nil {
		w.t.Fatalf("exec %q: %v", spec.Command, err)
	}
	if streams != nil {
		w.t.Cleanup(streams.Close)
	}
	return id, streams
}

// listed tells the exec of an id, nil if there is none.
func (w *world) listed(ref, id string) *api.ExecInfo {
	w.t.Helper()
	all, err := w.Execs(w.t.Context(), ref)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.ID == id {
			return &e
		}
	}
	return nil
}

// awaitNoExec returns when an exec is gone; only the guest hears of it.
func (w *world) awaitNoExec(ref, id string) {
	w.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); w.listed(ref, id) != nil; {
		if time.Now().After(deadline) {
			w.t.Fatalf("exec %s is still there", id)
		}
	}
}

func says(t *testing.T, s *api.Streams, text string) {
	t.Helper()
	if _, err := io.WriteString(s.Stdin, text); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(s.Stdout, got); err != nil || string(got) != text {
		t.Fatalf("cat said %q, %v", got, err)
	}
}

func TestExecsOutliveTheDaemonAndEndWithTheirClients(t *testing.T) {
	w := newWorld(t)
	w.images.set(func(i *images) { i.config = image.Config{Env: []string{"OF=image"}} })
	w.host("web")
	cat := api.ExecSpec{Command: []string{"cat"}, Stdin: true}
	id, streams := w.exec("web", cat)
	lost, orphan := w.exec("web", cat)
	says(t, streams, "before")
	w.kill()
	says(t, streams, "meanwhile")
	orphan.Close()
	w.start()
	says(t, streams, "after")
	w.awaitNoExec("web", lost)
	if e := w.listed("web", id); e == nil || e.ExitCode != nil {
		t.Errorf("after the restart the exec is %+v", e)
	}
	_, env := w.exec("web", api.ExecSpec{Command: []string{"env"}})
	if got := readAll(t, env.Stdout); !strings.Contains(got, "OF=image\n") {
		t.Errorf("after the restart the environment is %q", got)
	}
	streams.Close()
	w.awaitNoExec("web", id)
}

func TestADetachedExecOutlivesItsClientAndTheDaemon(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	id, _ := w.exec("web", api.ExecSpec{Command: []string{"trap"}, Detach: true})
	w.restart()
	streams, err := w.ReattachExec(t.Context(), "web", id)
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	if err := w.SignalExec(t.Context(), "web", id, 15); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, streams.Stdout); got != "ready\nsignal 15\n" {
		t.Errorf("it said %q", got)
	}
}

func TestClientsOfExecsHearThatTheInstanceRests(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	_, streams := w.exec("web", api.ExecSpec{Command: []string{"sleep"}})
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, streams.Session); got != "" {
		t.Errorf("the session said %q", got)
	}
	if in, err := w.Get(t.Context(), "web"); err != nil || in.Phase != api.PhaseStopped {
		t.Errorf("at the session's end the instance is %+v, %v", in, err)
	}
}

func TestACrashEndsExecsWithoutAStatus(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	_, streams := w.exec("web", api.ExecSpec{Command: []string{"sleep"}})
	w.machine("web").Panic("as asked")
	if _, err := proto.ReadStatus(streams.Status); err == nil {
		t.Error("there is a status")
	}
	readAll(t, streams.Session)
	in := w.awaitPhase("web", api.PhaseFailed)
	if !strings.Contains(in.LastError, "as asked") {
		t.Errorf("reason: %q", in.LastError)
	}
	_, _, err := w.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"true"}})
	if api.CodeOf(err) != api.BadState || !contains(err, "failed") || !contains(err, "start it") {
		t.Errorf("exec: %v", err)
	}
}

func TestManyExecsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			_, streams, err := w.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"exit", "9"}})
			if err != nil {
				t.Error(err)
				return
			}
			defer streams.Close()
			if st, err := proto.ReadStatus(streams.Status); err != nil || st.Code != 9 {
				t.Errorf("status %+v, %v", st, err)
			}
		})
	}
	all.Wait()
}

func TestClientsOfExecsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	spec := api.ExecSpec{Command: []string{"sleep"}}
	var last *os.File
	for range 256 {
		_, streams := w.exec("web", spec)
		last = streams.Session
	}
	_, _, err := w.Exec(t.Context(), "web", spec)
	if api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("one too many: %v", err)
	}
	last.Close()
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, streams, err := w.Exec(t.Context(), "web", spec)
		if err == nil {
			streams.Close()
			break
		}
		if api.CodeOf(err) != api.LimitExceeded || time.Now().After(deadline) {
			t.Fatalf("after one has gone: %v", err)
		}
	}
}

func TestGivingUpAnExecCostsNobodyTheSession(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 {
		if _, streams, err := w.Exec(ctx, "web", api.ExecSpec{Command: []string{"true"}}); err == nil {
			streams.Close()
		}
	}
	if err := w.Signal(t.Context(), "web", 15); err != nil {
		t.Errorf("the instance afterwards: %v", err)
	}
}

func TestExecsNeedAnInstanceThatRuns(t *testing.T) {
	w := newWorld(t)
	boot := make(chan struct{})
	w.machines.driver.Behave(fake.Behaviour{Boot: boot})
	w.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	_, _, err := w.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"true"}})
	if api.CodeOf(err) != api.BadState || !contains(err, "starting") || !contains(err, "try again") {
		t.Errorf("while it starts: %v", err)
	}
	close(boot)
	w.awaitPhase("web", api.PhaseRunning)
	if _, streams := w.exec("web", api.ExecSpec{Command: []string{"true"}}); readAll(t, streams.Stdout) != "" {
		t.Error("true said something")
	}
}

func TestAnExecLetsAPausedInstanceGoOn(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	w.call("pause")
	_, streams := w.exec("web", api.ExecSpec{Command: []string{"echo", "awake"}})
	if got := readAll(t, streams.Stdout); got != "awake\n" {
		t.Errorf("it said %q", got)
	}
	if in, err := w.Get(t.Context(), "web"); err != nil || in.Phase != api.PhaseRunning {
		t.Errorf("phase %s (%v)", in.Phase, err)
	}
}
