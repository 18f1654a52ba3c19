package instance_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
	"github.com/xfeldman/aegisvm/daemons/aegisd/instance"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

// entries reads what there is of a log.
func (w *world) entries(ref string, q api.LogQuery) (all []api.LogEntry) {
	w.t.Helper()
	s, err := w.Logs(w.t.Context(), ref, q)
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	for {
		entries, err := s.Next()
		all = append(all, entries...)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

var ofProgram = api.LogQuery{Source: api.LogServer}

func printedBytes(entries []api.LogEntry) []byte {
	var b []byte
	for _, e := range entries {
		b = append(b, e.Bytes()...)
		if !e.Partial {
			b = append(b, '\n')
		}
	}
	return b
}

// steps is a program that prints a number of lines whenever it is told to, and
// ends when it is told no more.
func steps(w *world, name string, go_ <-chan int) {
	w.machines.driver.Program(name, func(ctx context.Context, p *program.Proc) int {
		line := 0
		for {
			select {
			case n, more := <-go_:
				if !more {
					return 0
				}
				for range n {
					fmt.Fprintf(p.Stdout, "line %d \xff\n", line)
					line++
				}
			case <-ctx.Done():
				return 1
			}
		}
	})
}

func numbered(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "line %d \xff\n", i)
	}
	return b.Bytes()
}

// Whatever aegisd was doing with the output when it was killed, the next one
// loses nothing and writes nothing twice.
func TestAegisdThatIsKilledLosesNoOutput(t *testing.T) {
	w := newWorld(t)
	told := make(chan int)
	steps(w, "steps", told)
	in := w.create(api.InstanceSpec{Command: []string{"steps"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	const kills, burst = 8, 4000
	for range kills {
		told <- burst
		w.restart()
	}
	close(told)
	w.awaitPhase(in.ID, api.PhaseStopped)
	got := printedBytes(w.entries(in.ID, ofProgram))
	if want := numbered(kills * burst); !bytes.Equal(got, want) {
		t.Errorf("the log has %d bytes of %d, or others", len(got), len(want))
	}
}

func TestOutputWaitsForAnAegisdThatIsAway(t *testing.T) {
	w := newWorld(t)
	told := make(chan int)
	steps(w, "steps", told)
	in := w.create(api.InstanceSpec{Command: []string{"steps"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	told <- 3
	w.kill()
	told <- 20000 // more than fits in before somebody reads
	w.start()
	close(told)
	w.awaitPhase(in.ID, api.PhaseStopped)
	if got, want := printedBytes(w.entries(in.ID, ofProgram)), numbered(20003); !bytes.Equal(got, want) {
		t.Errorf("the log has %d bytes of %d, or others", len(got), len(want))
	}
}

func TestALogIsTheSameBeforeAndAfterARestart(t *testing.T) {
	w := newWorld(t)
	stopped := w.create(api.InstanceSpec{Command: []string{"lines", "5"}})
	running := w.create(api.InstanceSpec{Command: []string{"trap"}})
	failed := w.create(api.InstanceSpec{Command: []string{"true"}, ImageRef: "/no/such"})
	w.awaitPhase(stopped.ID, api.PhaseStopped)
	w.awaitPhase(failed.ID, api.PhaseFailed)
	w.awaitLine(running.ID, "ready")
	before := map[string][]api.LogEntry{}
	for _, in := range []api.Instance{stopped, running, failed} {
		before[in.ID] = w.entries(in.ID, api.LogQuery{})
	}
	w.restart()
	for id, want := range before {
		if diff := cmp.Diff(want, w.entries(id, api.LogQuery{})); diff != "" {
			t.Error(diff)
		}
	}
}

// awaitLine follows a log until it has a line.
func (w *world) awaitLine(ref, line string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	s, err := w.Logs(ctx, ref, api.LogQuery{Follow: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.Close()
	for {
		entries, err := s.Next()
		if err != nil {
			w.t.Fatalf("waiting for %q: %v", line, err)
		}
		for _, e := range entries {
			if strings.Contains(e.Line, line) {
				return
			}
		}
	}
}

func TestAFollowerGoesOnOverARestartOfTheService(t *testing.T) {
	w := newWorld(t)
	told := make(chan int)
	steps(w, "steps", told)
	w.create(api.InstanceSpec{Command: []string{"steps"}, Handle: "web"})
	w.awaitPhase("web", api.PhaseRunning)
	want := numbered(200)
	var got []byte
	whole, done, noticed := make(chan struct{}), make(chan error, 1), make(chan string, 10)
	current := &current{aegis: w.Service}
	go func() {
		r := follow.Reader{Aegis: current, Notice: func(l string) { noticed <- l }}
		done <- r.Each(t.Context(), "web", api.LogQuery{Follow: true, Source: api.LogServer}, func(entries []api.LogEntry) error {
			if got = append(got, printedBytes(entries)...); len(got) == len(want) {
				close(whole)
			}
			return nil
		})
	}()
	told <- 100
	w.awaitLine("web", "line 99")
	current.change(func() api.Aegis { w.restart(); return w.Service })
	if said := <-noticed; !strings.Contains(said, "waiting for aegisd") {
		t.Errorf("notice: %q", said)
	}
	told <- 100
	close(told)
	<-whole
	if err := w.Delete(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || !bytes.Equal(got, want) {
		t.Errorf("the follower got %q, %v", got, err)
	}
}

// current is the aegisd that there is; while it is being replaced calls wait.
type current struct {
	api.Aegis

	mu    sync.Mutex // guards the field below
	aegis api.Aegis
}

func (c *current) change(f func() api.Aegis) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aegis = f()
}

func (c *current) now() api.Aegis {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aegis
}

func (c *current) Get(ctx context.Context, ref string) (api.Instance, error) {
	return c.now().Get(ctx, ref)
}

func (c *current) Logs(ctx context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	return c.now().Logs(ctx, ref, q)
}

func TestEndlessOutputIsBounded(t *testing.T) {
	w := newWorld(t)
	w.logSize = 64 << 10
	w.restart()
	in := w.create(api.InstanceSpec{Command: []string{"bytes", "3000000"}}) // not one newline
	w.awaitPhase(in.ID, api.PhaseStopped)
	all := w.entries(in.ID, ofProgram)
	for _, e := range all {
		if len(e.Line) > api.MaxLine || e.Stream == api.LogStdout && !e.Partial {
			t.Errorf("an entry of %d bytes, partial %v", len(e.Line), e.Partial)
		}
	}
	files, _ := filepath.Glob(filepath.Join(w.logs(), in.ID, "*"))
	var total int64
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 3*w.logSize || len(files) != 3 {
		t.Errorf("%d bytes in %v", total, files)
	}
}

func TestTheLastWordsOfAMachineThatDiesAreInItsLog(t *testing.T) {
	w := newWorld(t)
	told := make(chan int)
	steps(w, "steps", told)
	in := w.create(api.InstanceSpec{Command: []string{"steps"}})
	w.awaitPhase(in.ID, api.PhaseRunning)
	told <- 5
	w.awaitLine(in.ID, "line 4")
	w.machine(in.ID).Crash("killed by signal 9")
	w.awaitPhase(in.ID, api.PhaseFailed)
	all := w.entries(in.ID, api.LogQuery{})
	if last := all[len(all)-1]; !strings.Contains(last.Line, "[aegis] failed: ") || !strings.Contains(last.Line, "killed by signal 9") {
		t.Errorf("the last line is %q", last.Line)
	}
	if got := printedBytes(w.entries(in.ID, ofProgram)); !bytes.Equal(got, numbered(5)) {
		t.Errorf("the log has %q", got)
	}
}

func TestWhatAProgramSaysWhenItIsStoppedIsInItsLog(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"trap"}})
	w.awaitLine(in.ID, "ready")
	if _, err := w.Stop(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	if got := string(printedBytes(w.entries(in.ID, ofProgram))); got != "ready\nsignal 15\n" {
		t.Errorf("the log has %q", got)
	}
}

// breaks tells whether the next connection to a port is to break.
func (m *machines) breaks(port uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if port != proto.PortStream || m.broken == 0 {
		return false
	}
	m.broken--
	return true
}

// brokenStream is a connection whose other end has gone.
func brokenStream() (*os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, err
	}
	unix.Close(fds[1])
	return os.NewFile(uintptr(fds[0]), "broken"), nil
}

func TestAPathToTheOutputThatBreaksIsDialledAgain(t *testing.T) {
	w := newWorld(t)
	w.machines.mu.Lock()
	w.machines.broken = 5
	w.machines.mu.Unlock()
	told := make(chan int, 1)
	steps(w, "steps", told)
	in := w.create(api.InstanceSpec{Command: []string{"steps"}})
	told <- 1000
	w.awaitLine(in.ID, "line 999")
	close(told)
	w.awaitPhase(in.ID, api.PhaseStopped)
	if got, want := printedBytes(w.entries(in.ID, ofProgram)), numbered(1000); !bytes.Equal(got, want) {
		t.Errorf("the log has %d bytes of %d, or others", len(got), len(want))
	}
}

func TestATimeoutIsTold(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"sleep"}, TimeoutMS: 20})
	w.awaitPhase(in.ID, api.PhaseStopped)
	var lines []string
	for _, e := range w.entries(in.ID, api.LogQuery{Source: api.LogSystem}) {
		lines = append(lines, e.Line)
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, "[aegis] timed out after 20ms") {
		t.Errorf("the log says %q", text)
	}
}

func TestARestartIsTold(t *testing.T) {
	w, c := timedWorld(t)
	w.create(policy(api.RestartAlways, "exit", "3"))
	w.awaitLine("web", "starts again in 1s")
	c.advance(time.Second)
	w.awaitLine("web", "starts again in 2s")
	var got []string
	for _, e := range w.entries("web", api.LogQuery{}) {
		if e.Source == api.LogServer || !strings.Contains(e.Line, "image") {
			got = append(got, e.Line)
		}
	}
	want := []string{
		"[aegis] starting", "[aegis] booting", "[aegis] started", "exit 3", "process exited (code=3)", "[aegis] stopped", "[aegis] starts again in 1s",
		"[aegis] starting again, start 2", "[aegis] booting", "[aegis] started", "exit 3", "process exited (code=3)", "[aegis] stopped", "[aegis] starts again in 2s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAnInstanceThatCouldNotBeDeletedKeepsItsLog(t *testing.T) {
	w := newWorld(t)
	broken := errors.New("disk full")
	w.records = func(r instance.Records) instance.Records { return undeletable{r, &broken} }
	w.restart()
	in := w.create(api.InstanceSpec{Command: []string{"exit", "3"}})
	w.awaitPhase(in.ID, api.PhaseStopped)
	if err := w.Delete(t.Context(), in.ID); err == nil {
		t.Fatal("it was deleted")
	}
	if got := string(printedBytes(w.entries(in.ID, ofProgram))); got != "exit 3\n" {
		t.Errorf("the log has %q", got)
	}
	broken = nil
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(in.ID)
}

// undeletable are records that cannot be deleted while why is an error.
type undeletable struct {
	instance.Records
	why *error
}

func (u undeletable) Delete(ctx context.Context, id string) error {
	if *u.why != nil {
		return *u.why
	}
	return u.Records.Delete(ctx, id)
}

func TestLogsOfNobodyGoAtTheNextStart(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.logs(), "inst-orphan"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if left := w.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// A program that never stops printing does not hold the end of its instance.
func TestAnInstanceEndsWhateverItsStreamsDo(t *testing.T) {
	w := newWorld(t)
	in := w.create(api.InstanceSpec{Command: []string{"yes"}})
	w.awaitLine(in.ID, "y")
	if err := w.Delete(t.Context(), in.ID); err != nil {
		t.Fatal(err)
	}
	w.awaitGone(in.ID)
}

// What a detached exec prints is in the log once, whatever becomes of aegisd,
// and a client that comes meanwhile gets it as well.
func TestAegisdThatIsKilledLosesNoOutputOfADetachedExec(t *testing.T) {
	w := newWorld(t)
	told := make(chan int)
	steps(w, "steps", told)
	w.host("web")
	id, _ := w.exec("web", api.ExecSpec{Command: []string{"steps"}, Detach: true})
	const kills, burst = 4, 2000
	for range kills {
		told <- burst
		w.restart()
	}
	streams, err := w.ReattachExec(t.Context(), "web", id)
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	close(told)
	want := numbered(kills * burst)
	if got := readAll(t, streams.Stdout); !bytes.HasSuffix(want, []byte(got)) || got == "" {
		t.Errorf("the client got %d bytes of %d, or others", len(got), len(want))
	}
	log, err := w.Logs(t.Context(), "web", api.LogQuery{Follow: true, ExecID: id})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for lines := 0; lines < kills*burst; {
		entries, err := log.Next()
		if lines += len(entries); err != nil {
			t.Fatalf("after %d lines: %v", lines, err)
		}
	}
	if got := printedBytes(w.entries("web", api.LogQuery{ExecID: id})); !bytes.Equal(got, want) {
		t.Errorf("the log has %d bytes of %d, or others", len(got), len(want))
	}
	w.restart() // finds an exec that has ended, all of which is in the log
	if got := printedBytes(w.entries("web", api.LogQuery{ExecID: id})); !bytes.Equal(got, want) {
		t.Errorf("after one more restart the log has %d bytes of %d, or others", len(got), len(want))
	}
}

func TestWhatADetachedExecSaidBeforeTheInstanceStoppedIsInTheLog(t *testing.T) {
	w := newWorld(t)
	w.host("web")
	id, _ := w.exec("web", api.ExecSpec{Command: []string{"trap"}, Detach: true})
	said, err := w.Logs(t.Context(), "web", api.LogQuery{Follow: true, ExecID: id})
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	if first, err := said.Next(); err != nil || first[0].Line != "ready" { // it takes signals
		t.Fatalf("it said %+v, %v", first, err)
	}
	if err := w.SignalExec(t.Context(), "web", id, 10); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Stop(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	got := string(printedBytes(w.entries("web", api.LogQuery{ExecID: id})))
	if !strings.HasPrefix(got, "ready\n") || !strings.Contains(got, "signal 1") {
		t.Errorf("the log has %q", got)
	}
}
