package apitest

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// host is an instance that runs and does nothing.
func (s suite) host(spec api.InstanceSpec) string {
	s.Helper()
	spec.Command = []string{"sleep"}
	in := s.create(spec)
	s.awaitPhase(in.ID, api.PhaseRunning)
	return in.ID
}

func (s suite) start(ref string, spec api.ExecSpec) (string, *api.Streams) {
	s.Helper()
	id, streams, err := s.Exec(s.Context(), ref, spec)
	if err != nil || !strings.HasPrefix(id, "exec-") {
		s.Fatalf("exec %q: id %q, %v", spec.Command, id, err)
	}
	if streams != nil {
		s.Cleanup(streams.Close)
	}
	return id, streams
}

func (s suite) ended(streams *api.Streams) proto.ProcessStatus {
	s.Helper()
	streams.Status.SetReadDeadline(time.Now().Add(10 * time.Second))
	st, err := proto.ReadStatus(streams.Status)
	if err != nil {
		s.Fatalf("status: %v", err)
	}
	return st
}

// expect reads text from a stream.
func (s suite) expect(f *os.File, text string) {
	s.Helper()
	f.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(text))
	if n, err := io.ReadFull(f, got); err != nil || string(got) != text {
		s.Fatalf("read %q, %v, want %q", got[:n], err, text)
	}
}

func (s suite) send(f *os.File, text string) {
	s.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		s.Fatal(err)
	}
}

// awaitExec asks until an exec is as wanted. Only the guest knows of it, so
// there is no event to wait for.
func (s suite) awaitExec(ref, id string, want func(*api.ExecInfo) bool) {
	s.Helper()
	var last *api.ExecInfo
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		all, err := s.Execs(s.Context(), ref)
		if err != nil {
			s.Fatal(err)
		}
		last = nil
		for i := range all {
			if all[i].ID == id {
				last = &all[i]
			}
		}
		if want(last) {
			return
		}
	}
	s.Fatalf("exec %s is %+v", id, last)
}

func (s suite) exec() {
	ref := s.host(api.InstanceSpec{Handle: "web"})
	_, streams := s.start("web", api.ExecSpec{Command: []string{"exit", "7"}})
	if streams.Stdin != nil || streams.Terminal != nil || streams.Session == nil {
		s.Errorf("streams: %+v", streams)
	}
	if got := s.read(streams.Stderr); got != "exit 7\n" {
		s.Errorf("stderr is %q", got)
	}
	if got := s.ended(streams); got != (proto.ProcessStatus{Code: 7}) {
		s.Errorf("status is %+v", got)
	}
	_, streams = s.start(ref, api.ExecSpec{Command: []string{"cat"}, Stdin: true})
	s.send(streams.Stdin, "through")
	if err := CloseWrite(streams.Stdin); err != nil {
		s.Fatal(err)
	}
	if got := s.read(streams.Stdout); got != "through" {
		s.Errorf("stdout is %q", got)
	}
	_, streams = s.start(ref, api.ExecSpec{Command: []string{"nosuch"}})
	if got := s.ended(streams); got.Code != 127 || got.Message == "" {
		s.Errorf("status is %+v", got)
	}
	if in, err := s.Get(s.Context(), ref); err != nil || in.Phase != api.PhaseRunning {
		s.Errorf("afterwards the instance is %+v, %v", in, err)
	}
}

func (s suite) execTerminal() {
	ref := s.host(api.InstanceSpec{})
	id, streams := s.start(ref, api.ExecSpec{Command: []string{"size"}, Terminal: api.Terminal{TTY: true, Rows: 24, Cols: 80}})
	if streams.Stdin != nil || streams.Stdout != nil || streams.Stderr != nil || streams.Terminal == nil {
		s.Fatalf("streams: %+v", streams)
	}
	s.expect(streams.Terminal, "24 80\r\n")
	if err := s.ResizeExec(s.Context(), ref, id, 60, 200); err != nil {
		s.Fatal(err)
	}
	s.expect(streams.Terminal, "60 200\r\n")
	s.send(streams.Terminal, "\x03")
	s.expect(streams.Terminal, "^Csignal 2\r\n")
	s.send(streams.Terminal, "hello\r")
	s.expect(streams.Terminal, "hello\r\n")
	all, err := s.Execs(s.Context(), ref)
	want := []api.ExecInfo{{ID: "main", Command: []string{"sleep"}}, {ID: id, Command: []string{"size"}, TTY: true, Attached: true}}
	if diff := cmp.Diff(want, all, cmpopts.IgnoreFields(api.ExecInfo{}, "StartedAt")); diff != "" || err != nil {
		s.Errorf("execs: %v %s", err, diff)
	}
	if err := s.SignalExec(s.Context(), ref, id, 15); err != nil {
		s.Fatal(err)
	}
	if got := s.ended(streams); got.Code != 0 {
		s.Errorf("status is %+v", got)
	}
	_, streams = s.start(ref, api.ExecSpec{Command: []string{"env"}, Terminal: api.Terminal{TTY: true, Term: "vt100"}})
	if got := s.read(streams.Terminal); !strings.Contains(got, "TERM=vt100\r\n") {
		s.Errorf("environment is %q", got)
	}
}

func (s suite) execClient() {
	ref := s.host(api.InstanceSpec{})
	for _, tty := range []bool{false, true} {
		id, streams := s.start(ref, api.ExecSpec{Command: []string{"sleep"}, Terminal: api.Terminal{TTY: tty}})
		s.awaitExec(ref, id, func(i *api.ExecInfo) bool { return i != nil && i.ExitCode == nil && !i.Detached })
		streams.Close()
		s.awaitExec(ref, id, func(i *api.ExecInfo) bool { return i == nil || i.ExitSignal == 1 })
	}
}

func (s suite) execDetached() {
	ref := s.host(api.InstanceSpec{})
	id, streams := s.start(ref, api.ExecSpec{Command: []string{"cat"}, Detach: true, Terminal: api.Terminal{TTY: true}})
	if streams != nil {
		s.Errorf("streams: %+v", streams)
	}
	for range 3 {
		streams, err := s.ReattachExec(s.Context(), ref, id)
		if err != nil {
			s.Fatal(err)
		}
		s.send(streams.Terminal, "x\r")
		s.expect(streams.Terminal, "x\r\nx\r\n")
		_, err = s.ReattachExec(s.Context(), ref, id)
		s.wantCode("attaching a second client", err, api.BadState)
		streams.Close()
		s.awaitExec(ref, id, func(i *api.ExecInfo) bool { return i != nil && i.ExitCode == nil && i.Detached && !i.Attached })
	}
	id, _ = s.start(ref, api.ExecSpec{Command: []string{"exit", "3"}, Detach: true})
	s.awaitExec(ref, id, func(i *api.ExecInfo) bool { return i != nil && i.ExitCode != nil && *i.ExitCode == 3 })
	streams, err := s.ReattachExec(s.Context(), ref, id)
	if err != nil {
		s.Fatal(err)
	}
	defer streams.Close()
	if got := s.read(streams.Stderr); got != "exit 3\n" {
		s.Errorf("what was kept of stderr is %q", got)
	}
	if got := s.ended(streams); got.Code != 3 {
		s.Errorf("status is %+v", got)
	}
}

func (s suite) execInherits() {
	s.set("SECRET", "of now")
	ref := s.host(api.InstanceSpec{Env: map[string]string{"A": "instance", "B": "instance"}, Secrets: []string{"SECRET"}})
	s.set("SECRET", "of later")
	s.set("MORE", "more")
	s.set("A", "secret")
	_, streams := s.start(ref, api.ExecSpec{
		Command: []string{"env"}, Env: map[string]string{"B": "exec", "C": "exec"},
		Secrets: []string{"MORE", "A"}, EnvSecrets: map[string]string{"D": "MORE", "C": "MORE"},
	})
	var got []string
	for line := range strings.Lines(s.read(streams.Stdout)) {
		if !strings.HasPrefix(line, "PATH=") {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
	}
	if diff := cmp.Diff([]string{"A=secret", "B=exec", "C=exec", "D=more", "MORE=more", "SECRET=of later"}, got); diff != "" {
		s.Errorf("environment: %s", diff)
	}
	_, _, err := s.Exec(s.Context(), ref, api.ExecSpec{Command: []string{"env"}, Secrets: []string{"NOT_THERE"}})
	if err == nil || !strings.Contains(err.Error(), "NOT_THERE") {
		s.Errorf("exec with a secret that there is not: %v", err)
	}
}

func (s suite) execSignal() {
	ref := s.host(api.InstanceSpec{})
	id, streams := s.start(ref, api.ExecSpec{Command: []string{"trap"}})
	s.expect(streams.Stdout, "ready\n")
	for _, n := range []int{2, 15} {
		if err := s.SignalExec(s.Context(), ref, id, n); err != nil {
			s.Fatal(err)
		}
	}
	if got := s.read(streams.Stdout); got != "signal 2\nsignal 15\n" {
		s.Errorf("program saw %q", got)
	}
	_, streams = s.start(ref, api.ExecSpec{Command: []string{"sleep"}, TimeoutMS: 50})
	if got := s.ended(streams); got.Code != 124 || got.Signal != 0 || !strings.Contains(got.Message, "timed out") {
		s.Errorf("out of time: %+v", got)
	}
}

func (s suite) execRefusals() {
	ctx := s.Context()
	ref := s.host(api.InstanceSpec{})
	for name, spec := range map[string]api.ExecSpec{
		"no command":         {},
		"NUL in an argument": {Command: []string{"a\x00"}},
		"huge command":       {Command: strings.Fields(strings.Repeat("x ", 600_000))},
		"an env name with =": {Command: []string{"x"}, Env: map[string]string{"A=B": ""}},
		"a relative workdir": {Command: []string{"x"}, Workdir: "tmp"},
		"a bad secret":       {Command: []string{"x"}, Secrets: []string{"a b"}},
		"a strange user":     {Command: []string{"x"}, User: "a\nb"},
		"a negative timeout": {Command: []string{"x"}, TimeoutMS: -1},
		"a huge terminal":    {Command: []string{"x"}, Terminal: api.Terminal{TTY: true, Rows: 65536}},
		"a negative one":     {Command: []string{"x"}, Terminal: api.Terminal{TTY: true, Cols: -1}},
		"a strange one":      {Command: []string{"x"}, Terminal: api.Terminal{TTY: true, Term: "a=b"}},
		"a size without one": {Command: []string{"x"}, Terminal: api.Terminal{Rows: 24}},
	} {
		_, _, err := s.Exec(ctx, ref, spec)
		s.wantCode(name, err, api.InvalidArgument)
	}
	ok := api.ExecSpec{Command: []string{"sleep"}}
	_, _, err := s.Exec(ctx, "nosuch", ok)
	s.wantCode("exec in no instance", err, api.NotFound)
	_, err = s.Execs(ctx, "nosuch")
	s.wantCode("execs of no instance", err, api.NotFound)
	_, err = s.ReattachExec(ctx, ref, "no/such?")
	s.wantCode("attaching to no exec", err, api.NotFound)
	s.wantCode("signalling no exec", s.SignalExec(ctx, ref, "nosuch", 15), api.NotFound)
	s.wantCode("resizing no exec", s.ResizeExec(ctx, ref, "nosuch", 1, 1), api.NotFound)
	id, _ := s.start(ref, ok)
	s.wantCode("no signal", s.SignalExec(ctx, ref, id, 0), api.InvalidArgument)
	s.wantCode("a negative size", s.ResizeExec(ctx, ref, id, -1, 1), api.InvalidArgument)
	s.wantCode("a huge size", s.ResizeExec(ctx, ref, id, 1, 65536), api.InvalidArgument)
	s.wantCode("resizing what has no terminal", s.ResizeExec(ctx, ref, id, 1, 1), api.BadState)
	_, err = s.ReattachExec(ctx, ref, id)
	s.wantCode("attaching to what is not detached", err, api.BadState)
	if _, err := s.Stop(ctx, ref); err != nil {
		s.Fatal(err)
	}
	_, _, err = s.Exec(ctx, ref, ok)
	s.wantCode("exec in a stopped instance", err, api.BadState)
	_, err = s.Execs(ctx, ref)
	s.wantCode("execs of a stopped instance", err, api.BadState)
}

func (s suite) runTerminal() {
	spec := attached("size")
	spec.Terminal = api.Terminal{TTY: true, Rows: 24, Cols: 80}
	in := s.create(spec)
	streams := s.attach(in.ID)
	s.expect(streams.Terminal, "24 80\r\n")
	if err := s.ResizeExec(s.Context(), in.ID, api.PrimaryExec, 30, 100); err != nil {
		s.Fatal(err)
	}
	s.expect(streams.Terminal, "30 100\r\n")
	if err := s.SignalExec(s.Context(), in.ID, api.PrimaryExec, 15); err != nil {
		s.Fatal(err)
	}
	if got := s.ended(streams); got.Code != 0 {
		s.Errorf("status is %+v", got)
	}
	streams.Close()
	s.awaitGone(in.ID)
}

func (s suite) reattachPrimary() {
	in := s.create(api.InstanceSpec{Command: []string{"cat"}, Attach: true, Terminal: api.Terminal{TTY: true}})
	streams := s.attach(in.ID)
	for range 3 {
		s.send(streams.Terminal, "x\r")
		s.expect(streams.Terminal, "x\r\nx\r\n")
		streams.Close()
		s.awaitExec(in.ID, api.PrimaryExec, func(i *api.ExecInfo) bool { return i != nil && i.ExitCode == nil && !i.Attached })
		var err error
		if streams, err = s.reattach(in.ID); err != nil {
			s.Fatal(err)
		}
		s.Cleanup(streams.Close)
	}
	s.send(streams.Terminal, "\x04")
	if got := s.ended(streams); got.Code != 0 {
		s.Errorf("status is %+v", got)
	}
	streams.Close()
	s.awaitPhase(in.ID, api.PhaseStopped)
}

// reattach asks again while aegisd has not heard of the last client's end.
func (s suite) reattach(ref string) (streams *api.Streams, err error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		streams, err = s.ReattachExec(s.Context(), ref, api.PrimaryExec)
		if api.CodeOf(err) != api.BadState {
			break
		}
	}
	return streams, err
}
