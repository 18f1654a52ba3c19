package apitest

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// lives are the tests of api.Life.
func lives() map[string]func(suite) {
	return map[string]func(suite){
		"a disabled instance is started by its user only":    suite.disable,
		"a restart is a stop and a start":                    suite.restart,
		"a paused instance stands still, and is no other":    suite.pause,
		"a hibernated instance has no machine and goes on":   suite.hibernate,
		"who needs a paused instance resumes it":             suite.pausedIsResumed,
		"a lease keeps an instance awake and wakes it":       suite.lease,
		"an instance takes another name, and no taken one":   suite.rename,
		"waiting has an end":                                 suite.wait,
		"prune takes what is at rest and will stay so":       suite.prune,
		"the handle of an instance at rest starts it again":  suite.createAgain,
		"the notes of a spec can be read back":               suite.notes,
		"what cannot be done yet is kept, and not started":   suite.notYet,
		"what cannot be done yet leaves no ephemeral ones":   suite.notYetEphemeral,
		"ports that cannot be offered together are refused":  suite.exposeRefusals,
		"an exec starts what is there on demand, once":       suite.onDemand,
		"an exec tells why what is on demand cannot start":   suite.onDemandFails,
		"clients that hold streams are counted":              suite.activity,
		"specs of what stays are checked":                    suite.lifeRefusals,
		"no verb knows an unknown instance":                  suite.lifeUnknown,
		"a failed program is started again, a good one not":  suite.onFailure,
		"a stop ends the restarts of a policy":               suite.haltedRestarts,
		"the life of an instance at rest refuses to go on":   suite.atRest,
		"events tell a change of name and of being enabled":  suite.changes,
		"disabled instances are last in the list":            suite.disabledLast,
		"an instance that goes with its program stays so":    suite.ephemeral,
		"waiting for the end tells how an ephemeral one end": suite.waitEphemeral,
	}
}

func service(handle string, command ...string) api.InstanceSpec {
	return api.InstanceSpec{Handle: handle, Command: command}
}

// running creates an instance and returns once it runs.
func (s suite) running(spec api.InstanceSpec) api.Instance {
	s.Helper()
	return s.awaitPhase(s.create(spec).ID, api.PhaseRunning)
}

// must is for calls that have to work; phase is what they answer.
func (s suite) must(what string, in api.Instance, err error, phase api.Phase) api.Instance {
	s.Helper()
	if err != nil || in.Phase != phase {
		s.Fatalf("%s: %s, %v; want %s", what, in.Phase, err, phase)
	}
	return in
}

func (s suite) disable() {
	ctx := s.Context()
	s.running(service("web", "sleep"))
	in, err := s.Disable(ctx, "web")
	s.must("disable", in, err, api.PhaseStopped)
	if in.Enabled || in.Machine != "" {
		s.Errorf("disabled: %+v", in)
	}
	in, err = s.Disable(ctx, "web")
	s.must("second disable", in, err, api.PhaseStopped)
	in, err = s.Enable(ctx, "web")
	if s.must("enable", in, err, api.PhaseStopped); !in.Enabled {
		s.Errorf("enabled: %+v", in)
	}
	for name, start := range map[string]func(context.Context, string) (api.Instance, error){"start": s.Start, "restart": s.Restart} {
		if _, err = s.Disable(ctx, "web"); err != nil {
			s.Fatal(err)
		}
		in, err = start(ctx, "web")
		if s.must(name, in, err, api.PhaseStarting); !in.Enabled {
			s.Errorf("%s left it disabled: %+v", name, in)
		}
		s.awaitPhase("web", api.PhaseRunning)
	}
}

func (s suite) restart() {
	ctx := s.Context()
	first := s.running(service("web", "sleep"))
	in, err := s.Restart(ctx, "web")
	s.must("restart", in, err, api.PhaseStarting)
	second := s.awaitPhase("web", api.PhaseRunning)
	if second.Machine == first.Machine || second.Starts != 2 || second.RestartCount != 0 || second.ID != first.ID {
		s.Errorf("after a restart: %+v", second)
	}
	s.create(service("job", "exit", "0"))
	if _, err := s.Wait(ctx, "job", api.UntilStopped); err != nil {
		s.Fatal(err)
	}
	in, err = s.Restart(ctx, "job")
	s.must("restart of a finished job", in, err, api.PhaseStarting)
}

func (s suite) pause() {
	ctx := s.Context()
	first := s.running(service("web", "sleep"))
	in, err := s.Pause(ctx, "web")
	s.must("pause", in, err, api.PhasePaused)
	if in.State != api.StatePaused || in.Machine != first.Machine {
		s.Errorf("paused: %+v", in)
	}
	in, err = s.Pause(ctx, "web")
	s.must("second pause", in, err, api.PhasePaused)
	in, err = s.Resume(ctx, "web")
	s.must("resume", in, err, api.PhaseRunning)
	if !in.UpdatedAt.After(first.UpdatedAt) {
		s.Errorf("updated at %v, before the pause at %v", in.UpdatedAt, first.UpdatedAt)
	}
	first.UpdatedAt, first.Sleep = in.UpdatedAt, in.Sleep
	if diff := cmp.Diff(first, in); diff != "" {
		s.Errorf("a pause changed the instance: %s", diff)
	}
	in, err = s.Resume(ctx, "web")
	s.must("second resume", in, err, api.PhaseRunning)
}

func (s suite) hibernate() {
	ctx := s.Context()
	_, err := s.Hibernate(ctx, "nobody")
	s.wantCode("hibernating nobody", err, api.NotFound)
	first := s.running(service("web", "sleep"))
	in, err := s.Hibernate(ctx, "web")
	s.must("hibernate", in, err, api.PhaseHibernated)
	if in.State != api.StatePaused || in.Machine != "" || in.Sleep == nil || in.Sleep.SnapshotBytes == 0 || in.Sleep.Reason == "" {
		s.Errorf("hibernated: %+v", in)
	}
	in, err = s.Hibernate(ctx, "web")
	s.must("second hibernate", in, err, api.PhaseHibernated)
	in, err = s.Pause(ctx, "web")
	s.must("pause", in, err, api.PhaseHibernated)
	in, err = s.Resume(ctx, "web")
	s.must("resume", in, err, api.PhaseRunning)
	if in.Machine == first.Machine || in.Starts != first.Starts || !in.StartedAt.Equal(*first.StartedAt) {
		s.Errorf("woken: %+v; before %+v", in, first)
	}
	in, err = s.Stop(ctx, "web")
	s.must("stop", in, err, api.PhaseStopped)
	_, err = s.Hibernate(ctx, "web")
	s.wantCode("hibernating what is at rest", err, api.BadState)
}

func (s suite) lease() {
	ctx := s.Context()
	_, err := s.Keepalive(ctx, "nobody", api.Lease{})
	s.wantCode("a lease of nobody", err, api.NotFound)
	_, err = s.Release(ctx, "nobody")
	s.wantCode("a release of nobody", err, api.NotFound)
	s.running(service("web", "sleep"))
	for _, l := range []api.Lease{{TTLMS: -1}, {TTLMS: 86400001}, {Reason: strings.Repeat("x", 201)}, {Reason: "a\nb"}} {
		_, err = s.Keepalive(ctx, "web", l)
		s.wantCode("a lease that makes no sense", err, api.InvalidArgument)
	}
	in, err := s.Keepalive(ctx, "web", api.Lease{TTLMS: 3600000, Reason: "a build"})
	s.must("a lease", in, err, api.PhaseRunning)
	if !in.LeaseHeld || in.LeaseReason != "a build" || in.LeaseExpiresAt == nil || time.Until(*in.LeaseExpiresAt).Round(time.Minute) != time.Hour {
		s.Errorf("leased: %+v", in.Leased)
	}
	if in.Sleep == nil || len(in.Sleep.InUse) != 1 || !strings.HasSuffix(in.Sleep.InUse[0], ": a build") || in.Sleep.NextAt != nil {
		s.Errorf("kept awake by: %+v", in.Sleep)
	}
	_, err = s.Hibernate(ctx, "web")
	s.wantCode("hibernating what is kept awake", err, api.BadState)
	paused, err := s.Pause(ctx, "web")
	s.must("pause", paused, err, api.PhasePaused)
	in, err = s.Keepalive(ctx, "web", api.Lease{})
	if s.must("a lease of what is paused", in, err, api.PhaseRunning); time.Until(*in.LeaseExpiresAt).Round(10*time.Second) != api.DefaultLease {
		s.Errorf("leased: %+v", in.Leased)
	}
	for _, what := range []string{"a release", "a second release"} {
		in, err = s.Release(ctx, "web")
		if s.must(what, in, err, api.PhaseRunning); in.Leased != (api.Leased{}) || len(in.Sleep.InUse) != 0 {
			s.Errorf("after %s: %+v, %+v", what, in.Leased, in.Sleep)
		}
	}
	in, err = s.Hibernate(ctx, "web")
	s.must("hibernate", in, err, api.PhaseHibernated)
	in, err = s.Keepalive(ctx, "web", api.Lease{TTLMS: 60000})
	s.must("a lease of what is on disk", in, err, api.PhaseRunning)
	in, err = s.Stop(ctx, "web")
	if s.must("stop", in, err, api.PhaseStopped); in.LeaseHeld {
		s.Errorf("stopped: %+v", in.Leased)
	}
	_, err = s.Keepalive(ctx, "web", api.Lease{})
	s.wantCode("a lease of what is at rest", err, api.BadState)
}

func (s suite) pausedIsResumed() {
	ctx := s.Context()
	in := s.create(attached("trap"))
	streams := s.attach(in.ID)
	if _, err := io.ReadFull(streams.Stdout, make([]byte, len("ready\n"))); err != nil {
		s.Fatal(err)
	}
	for name, use := range map[string]func() error{
		"a signal": func() error { return s.Signal(ctx, in.ID, 2) },
		"a start":  func() error { _, err := s.Start(ctx, in.ID); return err },
	} {
		paused, err := s.Pause(ctx, in.ID)
		s.must("pause", paused, err, api.PhasePaused)
		if err := use(); err != nil {
			s.Fatalf("%s of a paused instance: %v", name, err)
		}
		got, err := s.Get(ctx, in.ID)
		s.must(name, got, err, api.PhaseRunning)
	}
	if _, err := s.Pause(ctx, in.ID); err != nil {
		s.Fatal(err)
	}
	if err := s.Signal(ctx, in.ID, 15); err != nil {
		s.Fatal(err)
	}
	if got := s.read(streams.Stdout); got != "signal 2\nsignal 15\n" {
		s.Errorf("the program saw %q", got)
	}
	s.running(service("web", "sleep"))
	if _, err := s.Pause(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	stopped, err := s.Stop(ctx, "web")
	s.must("stop of a paused instance", stopped, err, api.PhaseStopped)
}

func (s suite) rename() {
	ctx := s.Context()
	web := s.running(service("web", "sleep"))
	s.running(service("db", "sleep"))
	for handle, code := range map[string]api.Code{
		"db": api.Exists, web.ID: api.InvalidArgument, "": api.InvalidArgument, "-a": api.InvalidArgument,
		strings.Repeat("a", 64): api.InvalidArgument,
	} {
		_, err := s.Rename(ctx, "web", handle)
		s.wantCode("rename to "+handle, err, code)
	}
	in, err := s.Rename(ctx, "web", "www")
	if s.must("rename", in, err, api.PhaseRunning); in.Handle != "www" || in.ID != web.ID {
		s.Errorf("renamed: %+v", in)
	}
	_, err = s.Get(ctx, "web")
	s.wantCode("the old name", err, api.NotFound)
	in, err = s.Rename(ctx, "db", "web")
	s.must("the name is free again", in, err, api.PhaseRunning)
	if in, err = s.Stop(ctx, "www"); err != nil || in.Handle != "www" {
		s.Errorf("stop by the new name: %+v, %v", in, err)
	}
}

func (s suite) wait() {
	ctx := s.Context()
	s.create(service("job", "exit", "7"))
	in, err := s.Wait(ctx, "job", api.UntilStopped)
	if s.must("wait", in, err, api.PhaseStopped); in.ExitCode == nil || *in.ExitCode != 7 {
		s.Errorf("the job ended: %+v", in)
	}
	_, err = s.Wait(ctx, "job", api.UntilRunning)
	s.wantCode("waiting for what will not run", err, api.BadState)
	_, err = s.Wait(ctx, "job", "tomorrow")
	s.wantCode("waiting for something else", err, api.InvalidArgument)
	s.create(service("web", "sleep"))
	in, err = s.Wait(ctx, "web", api.UntilRunning)
	s.must("wait for running", in, err, api.PhaseRunning)

	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err = s.Wait(short, "web", api.UntilStopped)
	s.wantCode("waiting too long", err, api.Unavailable)

	gone := make(chan error, 1)
	go func() {
		_, err := s.Wait(ctx, "web", api.UntilGone)
		gone <- err
	}()
	if err := s.Delete(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if err := <-gone; err != nil && api.CodeOf(err) != api.NotFound { // deleted before the wait began
		s.Errorf("waiting for the deletion: %v", err)
	}
}

func (s suite) waitEphemeral() {
	in := s.create(api.InstanceSpec{Command: []string{"trap"}, AutoRemove: true})
	s.awaitPhase(in.ID, api.PhaseRunning)
	ended := make(chan api.Instance, 1)
	waiting := make(chan error, 1)
	go func() {
		last, err := s.Wait(s.Context(), in.ID, api.UntilStopped)
		ended <- last
		waiting <- err
	}()
	if err := s.Signal(s.Context(), in.ID, 15); err != nil {
		s.Fatal(err)
	}
	last, err := <-ended, <-waiting
	if api.CodeOf(err) == api.NotFound {
		return // it was gone before the wait began
	}
	if err != nil || last.ExitCode == nil || *last.ExitCode != 0 {
		s.Errorf("the last of it: %+v, %v", last, err)
	}
}

func (s suite) prune() {
	ctx := s.Context()
	for _, spec := range []api.InstanceSpec{
		service("job", "exit", "1"),
		{Handle: "demand", Command: []string{"exit"}, Restart: api.RestartOnDemand},
		{Handle: "disabled", Command: []string{"exit"}, Restart: api.RestartOnDemand},
		{Handle: "failed", Command: []string{"exit"}, ImageRef: "/no/such/image"},
	} {
		s.create(spec)
		if _, err := s.Wait(ctx, spec.Handle, api.UntilStopped); err != nil {
			s.Fatal(err)
		}
	}
	s.running(service("web", "sleep"))
	if _, err := s.Disable(ctx, "disabled"); err != nil {
		s.Fatal(err)
	}
	_, err := s.Prune(ctx, -time.Second, false)
	s.wantCode("a negative age", err, api.InvalidArgument)
	if ids, err := s.Prune(ctx, time.Hour, false); err != nil || len(ids) > 0 {
		s.Errorf("pruned too early: %v, %v", ids, err)
	}
	dry, err := s.Prune(ctx, 0, true)
	if err != nil || len(dry) != 3 || len(s.handles()) != 5 {
		s.Errorf("dry run: %v, %v", dry, err)
	}
	ids, err := s.Prune(ctx, 0, false)
	if !cmp.Equal(dry, ids) {
		s.Errorf("the dry run said %v", dry)
	}
	if err != nil || len(ids) != 3 {
		s.Errorf("pruned: %v, %v", ids, err)
	}
	if diff := cmp.Diff([]string{"web", "demand"}, s.handles()); diff != "" {
		s.Errorf("left: %s", diff)
	}
}

func (s suite) handles() []string {
	s.Helper()
	all, err := s.List(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, in := range all {
		names = append(names, in.Handle)
	}
	return names
}

func (s suite) createAgain() {
	ctx := s.Context()
	s.set("A", "1")
	s.set("B", "2")
	spec := service("web", "sleep")
	spec.Env, spec.Secrets = map[string]string{"X": "1"}, []string{"A"}
	first := s.running(spec)
	if first.Starts != 1 {
		s.Errorf("a new instance: %+v", first)
	}
	_, err := s.Create(ctx, api.Caller{}, spec)
	s.wantCode("create while it runs", err, api.Exists)
	_, err = s.Create(ctx, api.Caller{}, service("web"))
	s.wantCode("its name alone while it runs", err, api.Exists)
	if _, err := s.Disable(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	for name, change := range map[string]func(*api.InstanceSpec){
		"command":   func(sp *api.InstanceSpec) { sp.Command = []string{"exit"} },
		"memory_mb": func(sp *api.InstanceSpec) { sp.MemoryMB = 640 },
		"env":       func(sp *api.InstanceSpec) { sp.Env = map[string]string{"X": "2"} },
		"already":   func(sp *api.InstanceSpec) { sp.AutoRemove = true },
		"name of":   func(sp *api.InstanceSpec) { sp.Attach = true },
	} {
		other := spec
		change(&other)
		_, err := s.Create(ctx, api.Caller{}, other)
		s.wantCode("create with another "+name, err, api.Exists)
		if err != nil && !strings.Contains(err.Error(), name) {
			s.Errorf("another %s: %v", name, err)
		}
	}
	spec.Secrets, spec.MemoryMB = []string{"B"}, 512 // its default, said aloud
	again := s.create(spec)
	if again.ID != first.ID || again.Phase != api.PhaseStarting || again.Starts != 2 || !again.Enabled {
		s.Errorf("created again: %+v", again)
	}
	if diff := cmp.Diff([]string{"A", "B"}, again.SecretKeys); diff != "" {
		s.Errorf("secrets: %s", diff)
	}
	s.awaitPhase("web", api.PhaseRunning)
	if _, err := s.Stop(ctx, "web"); err != nil {
		s.Fatal(err)
	}
	if byName := s.create(service("web")); byName.ID != first.ID || byName.Starts != 3 {
		s.Errorf("created by its name: %+v", byName)
	}
}

func (s suite) notes() {
	spec := service("web", "sleep")
	spec.Hostname, spec.Restart = "host-1.example", api.RestartAlways
	spec.Labels = map[string]string{"a/b.c-d": "e f", "x": ""}
	in := s.running(spec)
	if in.Hostname != spec.Hostname || in.Restart != spec.Restart || !maps.Equal(in.Labels, spec.Labels) {
		s.Errorf("read back: %+v", in)
	}
}

func (s suite) lifeRefusals() {
	many := map[string]string{}
	for i := range 65 {
		many[strings.Repeat("x", i+1)] = ""
	}
	for word, specs := range map[string][]api.InstanceSpec{
		"hostname": {{Hostname: "a_b"}, {Hostname: "-a"}, {Hostname: "a."}, {Hostname: "a b"}, {Hostname: strings.Repeat("a", 64)}},
		"label": {
			{Labels: many},
			{Labels: map[string]string{"": "x"}},
			{Labels: map[string]string{"a b": "x"}},
			{Labels: map[string]string{"a": "b\nc"}},
			{Labels: map[string]string{"a": strings.Repeat("x", 257)}},
			{Labels: map[string]string{strings.Repeat("x", 129): ""}},
		},
		"restart": {{Restart: "sometimes"}, {Restart: api.RestartAlways, AutoRemove: true}, {Restart: api.RestartOnFailure, Attach: true}},
		"kit":     {{Kit: "../x"}, {Kit: strings.Repeat("k", 64)}},
		"idle":    {{Idle: "soon"}, {Idle: "pause=10ms"}, {Idle: "never,hibernate=5m"}},
	} {
		for _, spec := range specs {
			spec.Command = []string{"sleep"}
			_, err := s.Create(s.Context(), api.Caller{}, spec)
			s.wantCode(word, err, api.InvalidArgument)
			if err != nil && !strings.Contains(err.Error(), word) {
				s.Errorf("%s: %v", word, err)
			}
		}
	}
}

func (s suite) lifeUnknown() {
	for name, err := range s.everyVerb("no/such?x=%20") {
		s.wantCode(name, err, api.NotFound)
	}
}

// everyVerb calls each method of api.Life that takes an instance.
func (s suite) everyVerb(ref string) map[string]error {
	ctx, got := s.Context(), map[string]error{}
	for name, call := range map[string]func(context.Context, string) (api.Instance, error){
		"restart": s.Restart, "enable": s.Enable, "disable": s.Disable, "pause": s.Pause, "resume": s.Resume,
	} {
		_, got[name] = call(ctx, ref)
	}
	_, got["rename"] = s.Rename(ctx, ref, "other")
	_, got["wait"] = s.Wait(ctx, ref, api.UntilGone)
	return got
}

func (s suite) onFailure() {
	ctx := s.Context()
	bad, good := service("bad", "exit", "3"), service("good", "exit", "0")
	bad.Restart, good.Restart = api.RestartOnFailure, api.RestartOnFailure
	s.create(bad)
	s.create(good)
	in, err := s.Wait(ctx, "good", api.UntilStopped)
	s.must("the good one", in, err, api.PhaseStopped)
	again := s.await("bad", func(in api.Instance, _ error) bool { return in.RestartCount > 0 })
	if again.Starts < 2 {
		s.Errorf("started again: %+v", again)
	}
	if in, err = s.Get(ctx, "good"); err != nil || in.Starts != 1 || in.RestartAt != nil {
		s.Errorf("the good one: %+v, %v", in, err)
	}
}

func (s suite) haltedRestarts() {
	ctx := s.Context()
	spec := service("bad", "exit", "3")
	spec.Restart = api.RestartAlways
	s.create(spec)
	s.await("bad", func(in api.Instance, _ error) bool { return in.RestartAt != nil })
	in, err := s.Stop(ctx, "bad")
	if s.must("stop", in, err, api.PhaseStopped); in.RestartAt != nil {
		s.Errorf("after a stop: %+v", in)
	}
	in, err = s.Wait(ctx, "bad", api.UntilStopped)
	s.must("its end", in, err, api.PhaseStopped)
}

func (s suite) atRest() {
	ctx := s.Context()
	s.create(service("job", "exit", "0"))
	if _, err := s.Wait(ctx, "job", api.UntilStopped); err != nil {
		s.Fatal(err)
	}
	for name, call := range map[string]func(context.Context, string) (api.Instance, error){"pause": s.Pause, "resume": s.Resume} {
		_, err := call(ctx, "job")
		s.wantCode(name, err, api.BadState)
	}
}

func (s suite) changes() {
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	in := s.running(service("web", "sleep"))
	events, err := s.Events(ctx)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.Rename(ctx, "web", "www"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Disable(ctx, "www"); err != nil {
		s.Fatal(err)
	}
	var got []string
	for ev := range events {
		if ev.Instance != in.ID || ev.Handle != "www" {
			s.Errorf("odd event: %+v", ev)
		}
		got = append(got, ev.Type+" "+string(ev.Phase)+" "+ev.Message)
		if ev.Phase == api.PhaseStopped {
			break
		}
	}
	want := []string{`changed running renamed from "web"`, "changed running disabled", "phase stopping ", "phase stopped "}
	if diff := cmp.Diff(want, slices.DeleteFunc(got, func(e string) bool {
		return strings.HasPrefix(e, api.EventProgress) || strings.HasPrefix(e, api.EventExited) // these may come or not
	})); diff != "" {
		s.Errorf("events: %s", diff)
	}
}

func (s suite) disabledLast() {
	for _, handle := range []string{"a", "b", "c"} {
		s.running(service(handle, "sleep"))
	}
	if _, err := s.Disable(s.Context(), "a"); err != nil {
		s.Fatal(err)
	}
	if _, err := s.Stop(s.Context(), "b"); err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff([]string{"c", "b", "a"}, s.handles()); diff != "" {
		s.Errorf("list: %s", diff)
	}
}

func (s suite) ephemeral() {
	in := s.running(api.InstanceSpec{Command: []string{"sleep"}, AutoRemove: true})
	_, err := s.Restart(s.Context(), in.ID)
	s.wantCode("restart", err, api.BadState)
	if got, err := s.Get(s.Context(), in.ID); err != nil || got.Phase != api.PhaseRunning {
		s.Errorf("after the refusal: %+v, %v", got, err)
	}
}

// runAll runs a table of tests.
func runAll(t *testing.T, open func(t *testing.T) api.Aegis, tests map[string]func(suite)) {
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { test(suite{t, open(t)}) })
	}
}
