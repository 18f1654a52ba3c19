// Package apitest is what every api.Aegis must do, whoever implements it and
// whatever carries it: one suite for aegisd itself, for REST and for D-Bus.
// It needs machines in which the programs echo, cat, exit, kill, sleep and
// trap of vmm/fake/program exist.
package apitest

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// Run runs the suite. open gives an Aegis without instances, used by one test
// only.
func Run(t *testing.T, open func(t *testing.T) api.Aegis) {
	for name, test := range map[string]func(suite){
		"a run prints, tells its code and is gone":         suite.run,
		"stdin reaches the program and its end, too":       suite.stdin,
		"large output arrives whole":                       suite.large,
		"a stopped instance can be started again":          suite.stopAndStart,
		"what was asked for can be read back":              suite.readBack,
		"a spec that cannot work is refused in one line":   suite.refusals,
		"an unknown instance is NotFound everywhere":       suite.unknown,
		"a signal reaches the program":                     suite.signal,
		"streams are handed out once":                      suite.attachOnce,
		"events tell the life of an instance in order":     suite.events,
		"a client that gives up attaching is not held":     suite.giveUp,
		"the status counts instances by phase":             suite.status,
		"a failed start is told to who attaches":           suite.failedStart,
		"the list has running instances first, then older": suite.order,
		"secrets are set, listed, replaced and deleted":    suite.secrets,
		"secrets that cannot be kept are refused":          suite.secretRefusals,
		"a program gets the secrets it was promised":       suite.secretEnv,
		"a start without its secret fails by its name":     suite.secretMissing,
		"a client that lost its session gets another":      suite.rejoin,
		"the secrets of an instance can be replaced":       suite.secretUse,
		"a network is told and its policy changed":         suite.network,
		"an image is pulled, tagged, saved and loaded":     suite.images,
		"a run pulls its image and keeps it":               suite.imageOnDemand,
		"images that cannot be had are refused":            suite.imageRefusals,
		"an exec prints, tells its code and is forgotten":  suite.exec,
		"an exec has a terminal that is resized":           suite.execTerminal,
		"an exec ends with its client":                     suite.execClient,
		"a detached exec is left and found again":          suite.execDetached,
		"events and the log tell of execs":                 suite.execTold,
		"an exec inherits the instance's environment":      suite.execInherits,
		"an exec is signalled and ends in time":            suite.execSignal,
		"an exec that cannot be is refused in one line":    suite.execRefusals,
		"a run has a terminal":                             suite.runTerminal,
		"the primary program is attached to again":         suite.reattachPrimary,
		"a log has all that a program prints":              suite.printed,
		"a log tells how a program or a start ended":       suite.printedEnds,
		"a log is read by time, source, tail and cursor":   suite.logQueries,
		"a query of a log that makes no sense is refused":  suite.logRefusals,
		"a follower reads on until the instance is gone":   suite.logFollow,
		"a follower that gives up is not held":             suite.logFollowGivenUp,
		"the streams of a client are not in the log":       suite.logOfAttached,
		"files and folders are copied both ways":           suite.copies,
		"a copy that cannot be is refused in one line":     suite.copyRefusals,
		"a copy that is left costs nothing":                suite.copyLeft,
		"a copy wakes a paused instance":                   suite.copyPaused,
	} {
		t.Run(name, func(t *testing.T) { test(suite{t, open(t)}) })
	}
	runAll(t, open, lives())
	runAll(t, open, workspaces())
	runAll(t, open, fileTests())
	runAll(t, open, ports())
}

type suite struct {
	*testing.T
	api.Aegis
}

func (s suite) create(spec api.InstanceSpec) api.Instance {
	s.Helper()
	in, err := s.Create(s.Context(), api.Caller{UID: uint32(os.Getuid())}, spec)
	if err != nil {
		s.Fatalf("creating %q: %v", spec.Command, err)
	}
	return in
}

func (s suite) attach(ref string) *api.Streams {
	s.Helper()
	streams, err := s.Attach(s.Context(), ref)
	if err != nil {
		s.Fatalf("attaching to %s: %v", ref, err)
	}
	s.Cleanup(streams.Close)
	return streams
}

func (s suite) read(f *os.File) string {
	s.Helper()
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(f)
	if err != nil {
		s.Fatalf("reading a stream: %v", err)
	}
	return string(b)
}

// await returns once the instance is as wanted.
func (s suite) await(ref string, want func(api.Instance, error) bool) api.Instance {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	events, err := s.Events(ctx)
	if err != nil {
		s.Fatal(err)
	}
	for {
		in, err := s.Get(ctx, ref)
		if want(in, err) {
			return in
		}
		if _, more := <-events; !more {
			s.Fatalf("%s did not become what was awaited: %+v, %v", ref, in, err)
		}
	}
}

func (s suite) awaitPhase(ref string, phase api.Phase) api.Instance {
	s.Helper()
	return s.await(ref, func(in api.Instance, _ error) bool { return in.Phase == phase })
}

func (s suite) awaitGone(ref string) {
	s.Helper()
	s.await(ref, func(_ api.Instance, err error) bool { return api.CodeOf(err) == api.NotFound })
}

func (s suite) wantCode(what string, err error, code api.Code) {
	s.Helper()
	if got := api.CodeOf(err); got != code {
		s.Errorf("%s: code %q (%v), want %s", what, got, err, code)
	}
	if err != nil && strings.ContainsAny(err.Error(), "\n\r") {
		s.Errorf("%s: more than one line: %q", what, err)
	}
}

func attached(command ...string) api.InstanceSpec {
	return api.InstanceSpec{Command: command, Attach: true, AutoRemove: true}
}

func (s suite) run() {
	in := s.create(attached("exit", "7"))
	streams := s.attach(in.ID)
	if got := s.read(streams.Stderr); got != "exit 7\n" {
		s.Errorf("stderr is %q", got)
	}
	if streams.Stdin != nil {
		s.Error("there is a stdin that nobody asked for")
	}
	st, err := proto.ReadStatus(streams.Status)
	if err != nil || st != (proto.ProcessStatus{Code: 7}) {
		s.Errorf("status is %+v, %v", st, err)
	}
	streams.Close()
	s.awaitGone(in.ID)
}

func (s suite) stdin() {
	spec := attached("cat")
	spec.Stdin = true
	streams := s.attach(s.create(spec).ID)
	if _, err := io.WriteString(streams.Stdin, "one\ntwo"); err != nil {
		s.Fatal(err)
	}
	if err := CloseWrite(streams.Stdin); err != nil {
		s.Fatal(err)
	}
	if got := s.read(streams.Stdout); got != "one\ntwo" {
		s.Errorf("stdout is %q", got)
	}
	if st, err := proto.ReadStatus(streams.Status); err != nil || st.Code != 0 {
		s.Errorf("status is %+v, %v", st, err)
	}
}

func (s suite) large() {
	streams := s.attach(s.create(attached("bytes", "10485760")).ID)
	if got := s.read(streams.Stdout); len(got) != 10485760 || strings.Contains(got, "\n") {
		s.Errorf("%d bytes arrived", len(got))
	}
}

func (s suite) stopAndStart() {
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "web"})
	s.awaitPhase("web", api.PhaseRunning)
	stopped, err := s.Stop(s.Context(), "web")
	if err != nil || stopped.Phase != api.PhaseStopped || stopped.StoppedAt == nil || stopped.Machine != "" {
		s.Fatalf("stop: %+v, %v", stopped, err)
	}
	if again, err := s.Stop(s.Context(), "web"); err != nil || again.Phase != api.PhaseStopped {
		s.Errorf("second stop: %+v, %v", again, err)
	}
	started, err := s.Start(s.Context(), in.ID)
	if err != nil || started.Phase != api.PhaseStarting || started.Machine == in.Machine {
		s.Fatalf("start: %+v, %v", started, err)
	}
	s.awaitPhase("web", api.PhaseRunning)
	if running, err := s.Start(s.Context(), "web"); err != nil || running.Phase != api.PhaseRunning {
		s.Errorf("start of a running instance: %+v, %v", running, err)
	}
	if err := s.Delete(s.Context(), "web"); err != nil {
		s.Fatal(err)
	}
	_, err = s.Get(s.Context(), in.ID)
	s.wantCode("get of a deleted instance", err, api.NotFound)
}

func (s suite) readBack() {
	spec := api.InstanceSpec{
		Handle: "web-1.a_b", Command: []string{"sleep", "ünï", ""}, Env: map[string]string{"A": "1", "B": "x=y z"},
		Workdir: "/tmp", User: "nobody", MemoryMB: 256, VCPUs: 2, DiskMB: 1024,
	}
	in := s.create(spec)
	want := api.Instance{
		Handle: spec.Handle, Command: spec.Command, Env: spec.Env, Workdir: "/tmp", User: "nobody",
		MemoryMB: 256, VCPUs: 2, DiskMB: 1024, Enabled: true, State: api.StateStarting, Phase: api.PhaseStarting, OwnerUID: uint32(os.Getuid()),
		ID: in.ID, CreatedAt: in.CreatedAt, Machine: in.Machine, Restart: api.RestartNever, Starts: 1,
		LastActiveAt: in.LastActiveAt, UpdatedAt: in.UpdatedAt,
	}
	if in.LastActiveAt.Before(in.CreatedAt) || in.UpdatedAt.Before(in.CreatedAt) {
		s.Errorf("created %v, active %v, updated %v", in.CreatedAt, in.LastActiveAt, in.UpdatedAt)
	}
	if diff := cmp.Diff(want, in); diff != "" {
		s.Errorf("answer of create: %s", diff)
	}
	running := s.awaitPhase(in.ID, api.PhaseRunning)
	want.State, want.Phase, want.StartedAt, want.Digest = api.StateRunning, api.PhaseRunning, running.StartedAt, running.Digest
	want.UpdatedAt, want.Sleep = running.UpdatedAt, running.Sleep
	if diff := cmp.Diff(want, running); diff != "" || running.StartedAt == nil || running.Digest == "" {
		s.Errorf("running instance: %s", diff)
	}
}

func (s suite) unknown() {
	ctx := s.Context()
	_, err := s.Get(ctx, "nosuch")
	s.wantCode("get", err, api.NotFound)
	_, err = s.Start(ctx, "no/such?x=%20#y")
	s.wantCode("start", err, api.NotFound)
	_, err = s.Stop(ctx, "nosuch")
	s.wantCode("stop", err, api.NotFound)
	_, err = s.Attach(ctx, "nosuch")
	s.wantCode("attach", err, api.NotFound)
	s.wantCode("signal", s.Signal(ctx, "nosuch", 15), api.NotFound)
	s.wantCode("delete", s.Delete(ctx, "nosuch"), api.NotFound)
}

func (s suite) signal() {
	in := s.create(attached("trap"))
	s.wantCode("signal 0", s.Signal(s.Context(), in.ID, 0), api.InvalidArgument)
	streams := s.attach(in.ID)
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(streams.Stdout, ready); err != nil {
		s.Fatal(err)
	}
	if err := s.Signal(s.Context(), in.ID, 2); err != nil {
		s.Fatal(err)
	}
	if err := s.Signal(s.Context(), in.ID, 15); err != nil {
		s.Fatal(err)
	}
	if got := s.read(streams.Stdout); got != "signal 2\nsignal 15\n" {
		s.Errorf("program saw %q", got)
	}
}

func (s suite) attachOnce() {
	in := s.create(attached("sleep"))
	s.attach(in.ID)
	_, err := s.Attach(s.Context(), in.ID)
	s.wantCode("second attach", err, api.BadState)
	plain := s.create(api.InstanceSpec{Command: []string{"sleep"}})
	_, err = s.Attach(s.Context(), plain.ID)
	s.wantCode("attach without streams", err, api.BadState)
}

func (s suite) events() {
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	events, err := s.Events(ctx)
	if err != nil {
		s.Fatal(err)
	}
	in := s.create(api.InstanceSpec{Command: []string{"exit", "3"}, Handle: "job", AutoRemove: true})
	var got []string
	var last uint64
	for ev := range events {
		if ev.Instance != in.ID || ev.Handle != "job" || ev.Time.IsZero() || last != 0 && ev.Seq != last+1 {
			s.Errorf("odd event after %d: %+v", last, ev)
		}
		last = ev.Seq
		if ev.Type != api.EventProgress {
			got = append(got, ev.Type+" "+string(ev.Phase))
		}
		if ev.Type == api.EventDeleted {
			break
		}
	}
	want := []string{"created starting", "phase starting", "phase running", "exited running", "phase stopping", "deleted stopping"}
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("events: %s", diff)
	}
	cancel()
	for range events { // must end
	}
}

func (s suite) giveUp() {
	spec := attached("sleep")
	spec.AutoRemove = false
	in := s.create(spec)
	s.attach(in.ID).Close()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.Attach(ctx, in.ID); err == nil {
		s.Error("attach with an ended context succeeded")
	}
	if got, err := s.Get(s.Context(), in.ID); err != nil || got.Phase != api.PhaseRunning {
		s.Errorf("instance without auto_remove after its client went: %+v, %v", got, err)
	}
}

func (s suite) status() {
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}})
	s.awaitPhase(in.ID, api.PhaseRunning)
	st, err := s.Status(s.Context())
	if err != nil || st.Status != "running" || st.Backend == "" || st.Version == "" || st.Composition == "" {
		s.Errorf("status: %+v, %v", st, err)
	}
	if diff := cmp.Diff(map[api.Phase]int{api.PhaseRunning: 1}, st.Instances); diff != "" {
		s.Errorf("instances: %s", diff)
	}
}

func (s suite) failedStart() {
	spec := attached("echo")
	spec.ImageRef = "/no/such/image"
	in := s.create(spec)
	_, err := s.Attach(s.Context(), in.ID)
	s.wantCode("attach", err, api.NotFound)
	s.awaitGone(in.ID)
	spec.AutoRemove = false
	in = s.create(spec)
	failed := s.awaitPhase(in.ID, api.PhaseFailed)
	if failed.State != api.StateStopped || !strings.Contains(failed.LastError, "/no/such/image") {
		s.Errorf("failed instance: %+v", failed)
	}
}

func (s suite) order() {
	first := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "a"})
	second := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "b"})
	third := s.create(api.InstanceSpec{Command: []string{"sleep"}, Handle: "c"})
	for _, ref := range []string{"a", "b", "c"} {
		s.awaitPhase(ref, api.PhaseRunning)
	}
	if _, err := s.Stop(s.Context(), first.ID); err != nil {
		s.Fatal(err)
	}
	all, err := s.List(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	var got []string
	for _, in := range all {
		got = append(got, in.ID)
	}
	if diff := cmp.Diff([]string{second.ID, third.ID, first.ID}, got); diff != "" {
		s.Errorf("list: %s", diff)
	}
}
