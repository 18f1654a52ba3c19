package instance_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
	"github.com/xfeldman/aegisvm/vmm/fake"
)

// rawGet is what a client of the world's REST API reads.
func (w *world) rawGet(url string) string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- restapi.NewServer(w.Service, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	defer func() { cancel(); <-done }()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}
	resp, err := client.Get("http://aegis" + url)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("GET %s: %d, %v", url, resp.StatusCode, err)
	}
	return string(body)
}

// TestARestartOfTheDaemonChangesNoByte has an instance of every kind.
func TestARestartOfTheDaemonChangesNoByte(t *testing.T) {
	w, _ := timedWorld(t)
	if _, err := w.SetSecret(t.Context(), "KEY", "x"); err != nil {
		t.Fatal(err)
	}
	full := api.InstanceSpec{
		Handle: "full", Command: []string{"sleep", "ünï\n", ""}, Env: map[string]string{"B": "2", "A": "1"}, Workdir: "/tmp", User: "nobody",
		MemoryMB: 256, VCPUs: 2, Secrets: []string{"KEY"}, Hostname: "host", Labels: map[string]string{"b": "<&>", "a": ""}, Restart: api.RestartAlways,
	}
	job := api.InstanceSpec{Handle: "job", Command: []string{"kill", "9"}}
	due := api.InstanceSpec{Handle: "due", Command: []string{"exit", "3"}, Restart: api.RestartOnFailure}
	for _, spec := range []api.InstanceSpec{full, job, due, {Handle: "paused", Command: []string{"sleep"}}, {Handle: "asleep", Command: []string{"sleep"}}, {Handle: "disabled", Command: []string{"sleep"}}} {
		w.create(spec)
	}
	unnamed := w.create(api.InstanceSpec{Command: []string{"sleep"}})
	w.create(api.InstanceSpec{Handle: "printed", Command: []string{"echo", "ünï <&>"}})
	w.awaitPhase("printed", api.PhaseStopped)
	w.await("due", "a restart that is due", func(in api.Instance, _ error) bool { return in.RestartAt != nil })
	w.awaitPhase("job", api.PhaseStopped)
	for _, err := range []error{
		second(w.Wait(t.Context(), "full", api.UntilRunning)), second(w.Wait(t.Context(), "disabled", api.UntilRunning)),
		second(w.Wait(t.Context(), "paused", api.UntilRunning)), second(w.Pause(t.Context(), "paused")),
		second(w.Wait(t.Context(), "asleep", api.UntilRunning)), second(w.Hibernate(t.Context(), "asleep")),
		second(w.Disable(t.Context(), "disabled")), second(w.Rename(t.Context(), "job", "renamed")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.awaitPhase(unnamed.ID, api.PhaseRunning)
	w.machines.driver.Behave(fake.Behaviour{PanicAtBoot: "no root"})
	w.create(api.InstanceSpec{Handle: "failed", Command: []string{"sleep"}})
	w.awaitPhase("failed", api.PhaseFailed)
	if _, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{
		Handle: "later", Kit: "agent", Idle: "leases_only,pause=1m",
		Exposes: []api.Expose{{GuestPort: 80}, {Bind: "::", GuestPort: 53, PublicPort: 45353, Protocol: "udp"}},
	}); api.CodeOf(err) != api.Unavailable {
		t.Fatal(err)
	}
	all, err := w.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := map[string]string{}
	urls := []string{"/v1/instances"}
	for _, in := range all {
		urls = append(urls, "/v1/instances/"+in.ID, "/v1/instances/"+in.ID+"/logs")
	}
	for _, url := range urls {
		before[url] = sleepless(w.rawGet(url))
	}
	for range 2 {
		w.restart()
		for _, url := range urls {
			if diff := cmp.Diff(before[url], sleepless(w.rawGet(url))); diff != "" {
				t.Errorf("GET %s: %s", url, diff)
			}
		}
	}
	printed, err := w.Get(t.Context(), "printed")
	if err != nil || !strings.Contains(before["/v1/instances/"+printed.ID+"/logs"], `"line":"ünï <&>"`) {
		t.Errorf("the log of a program: %q, %v", before["/v1/instances/"+printed.ID+"/logs"], err)
	}
	for _, want := range []string{`"last_active_at":`, `"updated_at":`, `"handle":"renamed"`, `"restart_at":`, `"phase":"paused"`, `"phase":"hibernated"`, `"enabled":false`, `"last_error":`, `"exit_signal":9`, `"public_port":45353`, `"idle_policy":`, `"kit":`} {
		if !strings.Contains(before["/v1/instances"], want) {
			t.Errorf("there is no %s", want)
		}
	}
}

// sleepless leaves out when instances sleep next, which is counted anew.
func sleepless(text string) string {
	return regexp.MustCompile(`"sleep":\{[^}]*\},`).ReplaceAllString(text, "")
}

func second[T any](_ T, err error) error { return err }

func TestRunningInstancesShareTheHost(t *testing.T) {
	w := newWorld(t) // 16384 MiB, 4 processors
	big := w.create(api.InstanceSpec{Handle: "big", Command: []string{"sleep"}, MemoryMB: 10000, VCPUs: 4})
	w.awaitPhase(big.ID, api.PhaseRunning)
	w.call2("pause", "big")
	_, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{Handle: "other", Command: []string{"sleep"}, MemoryMB: 6385})
	if api.CodeOf(err) != api.LimitExceeded || !contains(err, "memory of 6385 MiB: other instances have 10000 of this host's 16384") {
		t.Errorf("too much memory: %v", err)
	}
	w.create(api.InstanceSpec{Handle: "other", Command: []string{"sleep"}, MemoryMB: 6384})
	w.awaitPhase("other", api.PhaseRunning)
	w.call2("stop", "big")
	small := w.create(api.InstanceSpec{Handle: "small", Command: []string{"sleep"}, MemoryMB: 128})
	w.awaitPhase(small.ID, api.PhaseRunning)
	before, _ := w.Get(t.Context(), "big")
	if _, err := w.Start(t.Context(), "big"); api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("start without room: %v", err)
	}
	if after, _ := w.Get(t.Context(), "big"); !cmp.Equal(before, after) {
		t.Errorf("the refusal changed it: %s", cmp.Diff(before, after))
	}
	w.call2("delete", "small")
	w.call2("start", "big")
}

func (w *world) call2(verb, ref string) {
	w.t.Helper()
	var err error
	switch ctx := w.t.Context(); verb {
	case "pause":
		_, err = w.Pause(ctx, ref)
	case "stop":
		_, err = w.Stop(ctx, ref)
	case "start":
		_, err = w.Start(ctx, ref)
	default:
		err = w.Delete(ctx, ref)
	}
	if err != nil {
		w.t.Fatalf("%s of %s: %v", verb, ref, err)
	}
}

func TestProcessorsAreSharedEightfold(t *testing.T) {
	w := newWorld(t)
	for range 8 {
		w.create(api.InstanceSpec{Command: []string{"sleep"}, MemoryMB: 128, VCPUs: 4})
	}
	_, err := w.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"sleep"}, MemoryMB: 128})
	if api.CodeOf(err) != api.LimitExceeded || !contains(err, "1 cpus: other instances have 32 of the 32") {
		t.Errorf("one processor more: %v", err)
	}
}

func TestManyStartsAtOnceDoNotShareTheSameMemory(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	var won, lost atomic.Int32
	for i := range 12 {
		all.Go(func() {
			spec := api.InstanceSpec{Handle: fmt.Sprint("big-", i), Command: []string{"sleep"}, MemoryMB: 4000}
			switch _, err := w.Create(t.Context(), api.Caller{}, spec); api.CodeOf(err) {
			case "":
				won.Add(1)
			case api.LimitExceeded:
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 4 || lost.Load() != 8 {
		t.Errorf("%d were started, %d refused", won.Load(), lost.Load())
	}
}

func TestSimultaneousRenamesHaveOneWinner(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for range 8 {
		ids = append(ids, w.create(api.InstanceSpec{Command: []string{"sleep"}}).ID)
	}
	var all sync.WaitGroup
	var won atomic.Int32
	for _, id := range ids {
		all.Go(func() {
			switch _, err := w.Rename(t.Context(), id, "web"); api.CodeOf(err) {
			case "":
				won.Add(1)
			case api.Exists:
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Errorf("%d have the name", won.Load())
	}
}

func TestARenameWhileItStarts(t *testing.T) {
	w := newWorld(t)
	boot := make(chan struct{})
	w.machines.driver.Behave(fake.Behaviour{Boot: boot})
	w.awaitMachine(w.create(web()))
	w.call("rename")
	close(boot)
	if in := w.awaitPhase("www", api.PhaseRunning); in.Handle != "www" {
		t.Errorf("renamed: %+v", in)
	}
	w.restart()
	w.awaitPhase("www", api.PhaseRunning)
}

func TestWhatCannotBeKeptIsNotDone(t *testing.T) {
	w, full := newWorld(t), &broken{}
	w.records = func(r instance.Records) instance.Records { full.Records = r; return full }
	w.restart()
	w.create(web())
	before := w.awaitPhase("web", api.PhaseRunning)
	full.update = api.Errorf(api.LimitExceeded, "disk is full")
	if _, err := w.Disable(t.Context(), "web"); api.CodeOf(err) != api.LimitExceeded {
		t.Errorf("disable: %v", err)
	}
	if after, _ := w.Get(t.Context(), "web"); !cmp.Equal(before, after) {
		t.Errorf("the refusal changed it: %s", cmp.Diff(before, after))
	}
	full.update = nil
	w.call("disable")
}

// TestRecordsOfALaterVersion has a spec that this version can keep and not
// start.
func TestRecordsOfALaterVersion(t *testing.T) {
	w := newWorld(t)
	spec := web()
	spec.Kit, spec.Idle = "agent", "5m"
	rec := store.Record{
		ID: "inst-1", Created: time.Unix(1, 0).UTC(), Spec: spec,
		Status: store.Status{Phase: api.PhaseStopped, Enabled: true, Generation: 1},
	}
	if err := w.store.Insert(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	w.restart()
	in, err := w.Get(t.Context(), "web")
	if err != nil || in.Kit != "agent" || in.Idle != "5m" {
		t.Errorf("read back: %+v, %v", in, err)
	}
	for name, call := range map[string]func(context.Context, string) (api.Instance, error){"start": w.Start, "restart": w.Restart} {
		if _, err := call(t.Context(), "web"); api.CodeOf(err) != api.Unavailable || !contains(err, "kit") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after, _ := w.Get(t.Context(), "web"); !cmp.Equal(in, after) {
		t.Errorf("the refusals changed it: %s", cmp.Diff(in, after))
	}
}

func TestAStopThatWasRecordedIsFinished(t *testing.T) {
	for name, change := range map[string]func(*store.Status){
		"disabled": func(st *store.Status) { st.Enabled = false },
		"stopped":  func(st *store.Status) { st.Revival.Halted = true },
	} {
		for _, phase := range []api.Phase{api.PhaseRunning, api.PhasePaused, api.PhaseStarting} {
			w := newWorld(t)
			spec := web()
			spec.Restart = api.RestartAlways
			w.create(spec)
			w.awaitPhase("web", api.PhaseRunning)
			if phase == api.PhasePaused {
				w.call("pause")
			}
			w.kill()
			w.records = func(r instance.Records) instance.Records {
				all, err := r.All(t.Context())
				if err != nil || len(all) != 1 {
					t.Fatalf("records: %+v, %v", all, err)
				}
				all[0].Status.Phase = phase
				change(&all[0].Status)
				if err := r.Update(t.Context(), all[0].ID, all[0].Status); err != nil {
					t.Fatal(err)
				}
				return r
			}
			w.start()
			if in := w.awaitPhase("web", api.PhaseStopped); in.RestartAt != nil || in.Starts != 1 || in.Machine != "" {
				t.Errorf("%s while %s: %+v", name, phase, in)
			}
		}
	}
}

func TestAStartThatCannotBeRepeatedIsTriedLater(t *testing.T) {
	w, _ := timedWorld(t)
	w.machines.driver.Behave(fake.Behaviour{NeverReady: true})
	spec := web()
	spec.Restart = api.RestartAlways
	w.awaitMachine(w.create(spec))
	w.kill()
	full := &broken{update: api.Errorf(api.LimitExceeded, "disk is full")}
	w.records = func(r instance.Records) instance.Records { full.Records = r; return full }
	w.start()
	in := w.await("web", "a refusal", func(in api.Instance, _ error) bool { return in.RestartAt != nil })
	if in.Phase != api.PhaseFailed || !strings.Contains(in.LastError, "disk is full") || in.StoppedAt == nil {
		t.Errorf("refused: %+v", in)
	}
}
