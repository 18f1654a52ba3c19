package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// guest is a table with its reaper, over whose end nothing is left running.
type guest struct {
	*testing.T
	*Table
	started int
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	r := NewReaper()
	g := &guest{T: t, Table: NewTable(r)}
	t.Cleanup(func() {
		g.mu.Lock() // some are being forgotten
		left := slices.Collect(maps.Values(g.processes))
		g.mu.Unlock()
		for _, p := range left {
			r.Signal(p.pid, syscall.SIGKILL, p.ended)
			<-p.done
			p.close()
		}
		r.Stop()
	})
	return g
}

// run is a started program with its streams.
type run struct {
	g                             *guest
	id                            string
	pid                           int
	stdin, stdout, stderr, status net.Conn
}

// spec runs argv with all its streams.
func (g *guest) spec(argv ...string) Spec {
	g.started++
	return Spec{
		ID: fmt.Sprint("p", g.started), Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/",
		Stdin: true, Stdout: true, Stderr: true,
	}
}

func (g *guest) start(s Spec) *run {
	g.Helper()
	pid, err := g.Start(s)
	if err != nil {
		g.Fatalf("starting %q: %v", s.Argv, err)
	}
	return &run{g: g, id: s.ID, pid: pid}
}

func (g *guest) run(argv ...string) *run {
	g.Helper()
	r := g.start(g.spec(argv...))
	r.stdin, r.stdout = r.dial(proto.Stdin), r.dial(proto.Stdout)
	r.stderr, r.status = r.dial(proto.Stderr), r.dial(proto.Status)
	return r
}

// dial connects a stream over a socket pair.
func (r *run) dial(k proto.Kind) net.Conn {
	r.g.Helper()
	ours, theirs := socketpair(r.g.T)
	go r.g.Serve(theirs, proto.Prelude{Kind: k, Process: r.id}) // ends with the stream
	return ours
}

func socketpair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) *net.UnixConn {
		f := os.NewFile(uintptr(fd), "pair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.UnixConn)
	}
	return conn(fds[0]), conn(fds[1])
}

func (r *run) ended() proto.ProcessStatus {
	r.g.Helper()
	s, err := proto.ReadStatus(r.status)
	if err != nil {
		r.g.Fatalf("status: %v", err)
	}
	return s
}

func all(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("reading: %v", err)
	}
	return string(b)
}

func TestAProgramEndsAsInAShell(t *testing.T) {
	dir := t.TempDir()
	plain, strange, script := filepath.Join(dir, "plain"), filepath.Join(dir, "strange"), filepath.Join(dir, "script")
	os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644)
	os.WriteFile(strange, []byte{1, 2, 3}, 0o755)
	os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o755)
	for _, c := range []struct {
		name string
		argv []string
		want proto.ProcessStatus
	}{
		{"success", []string{"true"}, proto.ProcessStatus{}},
		{"a code", []string{"sh", "-c", "exit 42"}, proto.ProcessStatus{Code: 42}},
		{"the largest code", []string{"sh", "-c", "exit 255"}, proto.ProcessStatus{Code: 255}},
		{"a signal", []string{"sh", "-c", "kill -9 $$"}, proto.ProcessStatus{Code: 137, Signal: 9}},
		{"no such name", []string{"no-such-program"}, proto.ProcessStatus{Code: 127, Message: "no-such-program: not found"}},
		{"no such path", []string{"/no/such"}, proto.ProcessStatus{Code: 127, Message: "/no/such: not found"}},
		{"an empty name", []string{""}, proto.ProcessStatus{Code: 127, Message: `"": not found`}},
		{"a directory", []string{"/"}, proto.ProcessStatus{Code: 126, Message: "/: is a directory"}},
		{"a file that is no program", []string{plain}, proto.ProcessStatus{Code: 126, Message: plain + ": permission denied"}},
		{"a program of another kind", []string{strange}, proto.ProcessStatus{Code: 126, Message: strange + ": exec format error"}},
		{"a script without interpreter", []string{script}, proto.ProcessStatus{Code: 127, Message: script + ": its interpreter is missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newGuest(t).run(c.argv...)
			if diff := cmp.Diff(c.want, r.ended()); diff != "" {
				t.Error(diff)
			}
			if out := all(t, r.stdout); out != "" {
				t.Errorf("output %q", out)
			}
		})
	}
}

func TestAnUnknownDirectoryOrUserIsToldInTheStatus(t *testing.T) {
	g := newGuest(t)
	s := g.spec("true")
	s.Cwd = "/no/such/dir"
	r := g.start(s)
	r.status = r.dial(proto.Status)
	if got := r.ended(); got.Code != 126 || got.Message != "/no/such/dir: no such working directory" {
		t.Errorf("unknown directory: %+v", got)
	}
	s = g.spec("true")
	s.User = "nobody-here"
	r = g.start(s)
	r.status = r.dial(proto.Status)
	if got := r.ended(); got.Code != 126 || !strings.Contains(got.Message, `"nobody-here"`) {
		t.Errorf("unknown user: %+v", got)
	}
}

func TestTheProgramIsLookedUpInTheGivenPathAndDirectory(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "bin"), 0o755)
	os.WriteFile(filepath.Join(dir, "bin/mine"), []byte("#!/bin/sh\necho mine in $PWD\n"), 0o755)
	g := newGuest(t)
	for _, c := range []struct{ argv, path string }{
		{"mine", dir + "/bin"},
		{"mine", "/usr/bin:bin"},
		{"./bin/mine", ""},
		{"bin/mine", "/usr/bin"},
	} {
		s := g.spec(c.argv)
		s.Cwd, s.Env = dir, []string{"PATH=/wrong", "PATH=" + c.path}
		r := g.start(s)
		if got, want := all(t, r.dial(proto.Stdout)), "mine in "+dir+"\n"; got != want {
			t.Errorf("%q in PATH %q printed %q, want %q", c.argv, c.path, got, want)
		}
	}
}

func TestStreamsAreSeparateAndCarryEveryByte(t *testing.T) {
	r := newGuest(t).run("sh", "-c", "cat; echo problem >&2")
	data := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		io.WriteString(r.stdin, data)
		r.stdin.(*net.UnixConn).CloseWrite()
	}()
	if got := all(t, r.stdout); got != data {
		t.Errorf("%d bytes of %d came back", len(got), len(data))
	}
	if got := all(t, r.stderr); got != "problem\n" {
		t.Errorf("stderr %q", got)
	}
	if got := r.ended(); got.Code != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestOutputWaitsForTheHost(t *testing.T) {
	g := newGuest(t)
	r := g.start(g.spec("echo", "early"))
	if s, err := g.Wait(t.Context(), r.id); err != nil || s.Code != 0 {
		t.Fatalf("status %+v, %v", s, err)
	}
	if got := all(t, r.dial(proto.Stdout)); got != "early\n" {
		t.Errorf("output %q", got)
	}
}

func TestTheEndIsTheProcesssAndNotItsPipes(t *testing.T) {
	r := newGuest(t).run("sh", "-c", "echo done; sleep 1000 & exit 3")
	if got := r.ended(); got.Code != 3 {
		t.Fatalf("status %+v", got)
	}
	if got := all(t, r.stdout); got != "done\n" {
		t.Errorf("output %q", got)
	}
	if got := all(t, r.stderr); got != "" {
		t.Errorf("stderr %q", got)
	}
	syscall.Kill(-r.pid, syscall.SIGKILL) // the one left behind
}

func TestAChildThatKeepsWritingHoldsNothingUp(t *testing.T) {
	r := newGuest(t).run("sh", "-c", "cat /dev/zero & cat /dev/zero >&2 & exec dd if=/dev/zero bs=1M count=4 status=none")
	stderr := make(chan int64, 1)
	go func() {
		n, _ := io.Copy(io.Discard, r.stderr)
		stderr <- n
	}()
	stdout, err := io.Copy(io.Discard, r.stdout)
	if err != nil {
		t.Error(err)
	}
	end, err := proto.ReadEnd(r.status)
	if err != nil || end.Code != 0 || end.Output == nil {
		t.Fatalf("end %+v, %v", end, err)
	}
	if got := (proto.Output{Stdout: stdout, Stderr: <-stderr}); got != *end.Output || got.Stdout < 4<<20 {
		t.Errorf("the streams had %+v, the status said %+v", got, *end.Output)
	}
	syscall.Kill(-r.pid, syscall.SIGKILL) // those left behind
}

func TestTheStatusTellsHowMuchWasWritten(t *testing.T) {
	g := newGuest(t)
	r := g.start(g.spec("sh", "-c", "echo early; echo no >&2"))
	g.Wait(t.Context(), r.id)
	r.status = r.dial(proto.Status)
	end, err := proto.ReadEnd(r.status)
	if err != nil || end.Output == nil || *end.Output != (proto.Output{Stdout: 6, Stderr: 3}) {
		t.Errorf("end %+v with %+v, %v", end, end.Output, err)
	}
}

func TestDrainWaitsForTheReadersOfWhatHasEnded(t *testing.T) {
	g := newGuest(t)
	r := g.run("dd", "if=/dev/zero", "bs=64k", "count=6", "status=none") // fits in pipe and socket, and not in one of them
	if s := r.ended(); s.Code != 0 {
		t.Fatalf("status %+v", s)
	}
	short, cancel := context.WithCancel(t.Context())
	cancel()
	g.Drain(short) // its other exit
	drained := make(chan struct{})
	go func() {
		g.Drain(t.Context())
		close(drained)
	}()
	io.ReadFull(r.stdout, make([]byte, 64<<10))
	select {
	case <-drained:
		t.Fatal("drained before all was read")
	default:
	}
	if rest := all(t, r.stdout); len(rest) != 5*64<<10 {
		t.Errorf("%d bytes are left", len(rest))
	}
	<-drained
}

func TestASecondDialIsRefused(t *testing.T) {
	g := newGuest(t)
	r := g.run("cat")
	io.WriteString(r.stdin, "x")
	io.ReadFull(r.stdout, make([]byte, 1)) // both are served by now
	for _, k := range []proto.Kind{proto.Stdin, proto.Stdout} {
		_, c := socketpair(t)
		if err := g.Serve(c, proto.Prelude{Kind: k, Process: r.id}); !errors.Is(err, ErrTaken) {
			t.Errorf("second %s: %v", k, err)
		}
	}
	r.stdin.Close()
	if got := all(t, r.stdout); got != "" {
		t.Errorf("output %q", got)
	}
}

func TestAReaderThatLeavesEndsAWriter(t *testing.T) {
	r := newGuest(t).run("sh", "-c", "exec cat /dev/zero")
	io.ReadFull(r.stdout, make([]byte, 1<<20))
	r.stdout.Close()
	if got := r.ended(); got.Signal != int(syscall.SIGPIPE) {
		t.Errorf("status %+v", got)
	}
}

func TestAProcessThatReadsNothingDoesNotHoldItsEndUp(t *testing.T) {
	r := newGuest(t).run("sh", "-c", "exec sleep 0.05")
	go io.Copy(r.stdin, zeros{})
	if got := r.ended(); got.Code != 0 {
		t.Errorf("status %+v", got)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestSignalsReachTheGroup(t *testing.T) {
	g := newGuest(t)
	r := g.run("sh", "-c", `trap 'echo got it; exit 5' TERM; echo ready; sleep 1000 & wait`)
	io.ReadFull(r.stdout, make([]byte, len("ready\n")))
	if err := g.Signal(r.id, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := r.ended(); got.Code != 5 {
		t.Errorf("status %+v", got)
	}
	if got := all(t, r.stdout); got != "got it\n" {
		t.Errorf("output %q", got)
	}
}

func TestAProcessIsForgottenWhenTheHostKnowsAll(t *testing.T) {
	g := newGuest(t)
	r := g.start(g.spec("true"))
	g.Wait(t.Context(), r.id)
	for _, k := range []proto.Kind{proto.Stdout, proto.Stderr, proto.Status} {
		if _, err := g.Wait(t.Context(), r.id); err != nil {
			t.Errorf("before %s: %v", k, err)
		}
		_, c := socketpair(t)
		if err := g.Serve(c, proto.Prelude{Kind: k, Process: r.id}); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	if err := g.Signal(r.id, 15); !errors.Is(err, ErrNotFound) {
		t.Errorf("signalling it: %v", err)
	}
}

func TestEndedProcessesThatNobodyAsksForAreBounded(t *testing.T) {
	g := newGuest(t)
	for range maxEnded + 20 {
		s := g.spec("/no/such")
		if _, err := g.Start(s); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(g.processes); n > maxEnded || n != len(g.ids) {
		t.Errorf("%d processes and %d ids are kept", n, len(g.ids))
	}
}

func TestStartRefusesWhatCannotBe(t *testing.T) {
	g := newGuest(t)
	r := g.run("cat")
	for name, c := range map[string]struct {
		spec Spec
		want error
	}{
		"no id":           {Spec{Argv: []string{"true"}}, ErrInvalid},
		"too long an id":  {Spec{ID: strings.Repeat("x", 65), Argv: []string{"true"}}, ErrInvalid},
		"no argv":         {Spec{ID: "x"}, ErrInvalid},
		"a live one's id": {Spec{ID: r.id, Argv: []string{"true"}}, ErrExists},
	} {
		if _, err := g.Start(c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	g := newGuest(t)
	r := g.run("cat")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Wait(ctx, r.id); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting: %v", err)
	}
}

func TestNoChildIsLeftAndNoneIsTold(t *testing.T) {
	g := newGuest(t)
	r := g.run("sleep", "1000")
	none := g.reaper.None()
	select {
	case <-none:
		t.Error("told that no child is left while one runs")
	default:
	}
	g.Signal(r.id, syscall.SIGKILL)
	<-none
}
