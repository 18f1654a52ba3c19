package run

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// caller is the user's side of a run.
type caller struct {
	aegis          *fakeAegis
	stdin          *os.File
	signals        chan os.Signal
	notices        []string
	stdout, stderr *os.File // files
}

func newCaller(t *testing.T, f *fakeAegis) *caller {
	t.Helper()
	c := &caller{aegis: f, signals: make(chan os.Signal, 8)}
	for name, file := range map[string]**os.File{"stdout": &c.stdout, "stderr": &c.stderr} {
		var err error
		if *file, err = os.Create(filepath.Join(t.TempDir(), name)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// run runs and checks that nothing is left.
func (c *caller) run(t *testing.T, spec api.InstanceSpec) (int, error) {
	t.Helper()
	client := &Client{
		Aegis: c.aegis, Stdin: c.stdin, Stdout: c.stdout, Stderr: c.stderr, Signals: c.signals,
		Notice: func(line string) { c.notices = append(c.notices, line) },
	}
	code, err := client.Run(context.Background(), spec)
	if c.aegis.createErr == nil && c.aegis.record.ID != "" && c.aegis.deleted == 0 {
		t.Error("the instance was left behind")
	}
	c.aegis.programs.Wait()
	return code, err
}

func content(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func code(n int) *int { return &n }

func TestRunTellsHowTheProgramEnded(t *testing.T) {
	status := func(s proto.ProcessStatus) func(*guest) { return func(g *guest) { g.exit(s) } }
	for _, c := range []struct {
		name    string
		program func(*guest)
		spec    api.InstanceSpec
		code    int
		err     string
	}{
		{name: "success", program: status(proto.ProcessStatus{})},
		{name: "its exit code", program: status(proto.ProcessStatus{Code: 3}), code: 3},
		{name: "a signal", program: status(proto.ProcessStatus{Code: 137, Signal: 9}), code: 137},
		{
			name: "a program that is not there", code: 127, err: "nosuch: not found",
			program: status(proto.ProcessStatus{Code: 127, Message: "nosuch: not found"}),
		},
		{
			name: "a message that would drive the terminal is made harmless", code: 126, err: "no [31mway",
			program: status(proto.ProcessStatus{Code: 126, Message: "no\x1b[31mway"}),
		},
		{name: "an exit code that no process has", program: status(proto.ProcessStatus{Code: 1 << 20}), code: 125},
		{
			name: "a machine that died", code: 125, err: "the guest's kernel panicked",
			program: func(g *guest) {
				g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseFailed, LastError: "the guest's kernel panicked"})
			},
		},
		{
			name: "half a status is none", code: 125, err: "the machine monitor died",
			program: func(g *guest) {
				io.WriteString(g.status, `{"code":`)
				g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseFailed, LastError: "the machine monitor died"})
			},
		},
		{
			name: "a status that was lost but is recorded", code: 125,
			err:     "the machine went before all that the program wrote had come; the program had ended with exit code 4",
			program: func(g *guest) { g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseStopped, ExitCode: code(4)}) },
		},
		{
			name: "a status that went with a machine that failed", code: 125,
			err: "the machine went before all that the program wrote had come; the program had ended with exit code 4: the machine monitor died",
			program: func(g *guest) {
				g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseFailed, ExitCode: code(4), LastError: "the machine monitor died"})
			},
		},
		{
			name: "a program that ran out of time and did not end", code: 124, err: "timed out after 2s", spec: api.InstanceSpec{TimeoutMS: 2000},
			program: func(g *guest) {
				g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseStopped, ExitCode: code(124), LastError: "timed out after 2s"})
			},
		},
		{
			name: "output that was all there is",
			program: func(g *guest) {
				io.WriteString(g.stdout, "hello")
				proto.WriteEnd(g.status, proto.End{Output: &proto.Output{Stdout: 5}})
			},
		},
		{
			name: "output that went with the machine", code: 125,
			err: "standard output of the program broke off after 5 of 11 bytes: its machine went before the rest had come",
			program: func(g *guest) {
				io.WriteString(g.stdout, "hello")
				proto.WriteEnd(g.status, proto.End{Output: &proto.Output{Stdout: 11}})
			},
		},
		{
			name: "errors that went with the machine", code: 125,
			err: "standard error of the program broke off after 0 of 1 bytes: its machine went before the rest had come",
			program: func(g *guest) {
				proto.WriteEnd(g.status, proto.End{Output: &proto.Output{Stderr: 1}})
			},
		},
		{
			name: "an instance that somebody stopped", code: 125, err: "the instance was stopped while its program ran: it is stopped",
			program: func(g *guest) { g.fail(api.Instance{ID: "inst-1", Phase: api.PhaseStopped}) },
		},
		{
			name: "a daemon that went with the machine", code: 125,
			err: "lost the program and aegisd with it: if its machine still runs, the next start of aegisd releases it: gone",
			program: func(g *guest) {
				g.fake.set(func(f *fakeAegis) { f.getErr = api.Errorf(api.Unavailable, "gone") })
				g.fail(api.Instance{ID: "inst-1"})
			},
		},
		{
			name: "an instance that somebody deleted", code: 125, err: "the instance was deleted while its program ran",
			program: func(g *guest) {
				g.fake.set(func(f *fakeAegis) { f.getErr = api.Errorf(api.NotFound, "no such instance") })
				g.fail(api.Instance{ID: "inst-1"})
			},
		},
		{
			name: "a program that ran out of time", code: 124, err: "timed out after 2s", spec: api.InstanceSpec{TimeoutMS: 2000},
			program: func(g *guest) {
				g.fake.set(func(f *fakeAegis) {
					f.record.ExitCode, f.record.LastError = code(124), "timed out after 2s"
				})
				g.exit(proto.ProcessStatus{Code: 143, Signal: 15})
			},
		},
		{
			name: "a program in time", code: 143, spec: api.InstanceSpec{TimeoutMS: 2000},
			program: status(proto.ProcessStatus{Code: 143, Signal: 15}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := newCaller(t, &fakeAegis{program: c.program}).run(t, c.spec)
			if got != c.code || text(err) != c.err {
				t.Errorf("exit code %d, %q; want %d, %q", got, text(err), c.code, c.err)
			}
		})
	}
}

func TestRunAsksForAnEphemeralInstance(t *testing.T) {
	for _, stdin := range []bool{false, true} {
		f := &fakeAegis{program: func(g *guest) { g.exit(proto.ProcessStatus{}) }}
		c := newCaller(t, f)
		if stdin {
			in, write := pipe(t)
			defer write.Close()
			c.stdin = in
		}
		c.run(t, api.InstanceSpec{Command: []string{"true"}, MemoryMB: 256})
		want := api.InstanceSpec{Command: []string{"true"}, MemoryMB: 256, Attach: true, AutoRemove: true, Stdin: stdin}
		if diff := cmp.Diff(want, f.spec); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
	}
}

func TestRunKeepsOutputsApartAndWhole(t *testing.T) {
	line := strings.Repeat("x", 10<<20) + "\n"
	c := newCaller(t, &fakeAegis{program: func(g *guest) {
		io.WriteString(g.stderr, "to stderr\n")
		g.exit(proto.ProcessStatus{Code: 5}) // before the output has gone out
		io.WriteString(g.stdout, line)
	}})
	got, err := c.run(t, api.InstanceSpec{})
	if got != 5 || err != nil {
		t.Errorf("exit code %d, %v", got, err)
	}
	if content(t, c.stdout) != line || content(t, c.stderr) != "to stderr\n" {
		t.Error("output is not what the program wrote")
	}
}

func TestRunPassesStdinAndItsEnd(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	in, write := pipe(t)
	c := newCaller(t, &fakeAegis{program: func(g *guest) {
		n, err := io.Copy(g.stdout, g.stdin)
		if err != nil || int(n) != len(data) {
			g.exit(proto.ProcessStatus{Code: 1})
			return
		}
		g.exit(proto.ProcessStatus{})
	}})
	c.stdin = in
	go func() {
		write.Write(data)
		write.Close()
	}()
	if got, err := c.run(t, api.InstanceSpec{}); got != 0 || err != nil {
		t.Errorf("exit code %d, %v", got, err)
	}
	if content(t, c.stdout) != string(data) {
		t.Error("what came back is not what was sent")
	}
}

func TestRunDoesNotWaitForStdinThatNobodyReads(t *testing.T) {
	in, write := pipe(t)
	defer write.Close() // not before
	c := newCaller(t, &fakeAegis{program: func(g *guest) { g.exit(proto.ProcessStatus{Code: 2}) }})
	c.stdin = in
	if got, err := c.run(t, api.InstanceSpec{}); got != 2 || err != nil {
		t.Errorf("exit code %d, %v", got, err)
	}
}

func TestRunEndsWhenNobodyReadsItsOutput(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *os.File{
		"a pipe of a shell": func(t *testing.T) *os.File { r, w := pipe(t); r.Close(); return w },
		"a pipe that is polled": func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCaller(t, &fakeAegis{program: func(g *guest) {
				for {
					if _, err := io.WriteString(g.stdout, "y\n"); err != nil {
						return
					}
				}
			}})
			c.stdout = make(t)
			got, err := c.run(t, api.InstanceSpec{})
			if want := 128 + int(syscall.SIGPIPE); got != want || err != nil {
				t.Errorf("exit code %d, %v; want %d", got, err, want)
			}
		})
	}
}

func TestRunSaysThatOutputCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	c := newCaller(t, &fakeAegis{program: func(g *guest) {
		io.WriteString(g.stdout, "hello\n")
		<-g.signals
	}})
	c.stdout = full
	got, err := c.run(t, api.InstanceSpec{})
	if got != Failed || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("exit code %d, %v; want %d and no space left", got, err, Failed)
	}
}

func TestRunSaysWhyNothingStarted(t *testing.T) {
	refusal := api.Errorf(api.NotFound, "image /nosuch: not there")
	for name, f := range map[string]*fakeAegis{
		"when it is created": {createErr: refusal},
		"while it starts":    {attachErr: refusal},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newCaller(t, f).run(t, api.InstanceSpec{})
			if got != Failed || !errors.Is(err, refusal) {
				t.Errorf("exit code %d, %v; want %d, %v", got, err, Failed, refusal)
			}
		})
	}
}

func TestRunTellsThatTheInstanceIsNotReleased(t *testing.T) {
	f := &fakeAegis{program: func(g *guest) { g.exit(proto.ProcessStatus{Code: 3}) }}
	f.deleteErr = api.Errorf(api.Unavailable, "aegisd is not running")
	got, err := newCaller(t, f).run(t, api.InstanceSpec{})
	if got != 3 || !strings.Contains(text(err), "not released") {
		t.Errorf("exit code %d, %v; want the program's 3 and a line", got, err)
	}
}
