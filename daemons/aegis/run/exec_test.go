package run

import (
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/console"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// execAegis has one instance, in which a program of the test's runs.
type execAegis struct {
	api.Aegis
	program func(g *execGuest)
	err     error
	record  api.Instance
	getErr  error

	spec    api.ExecSpec
	ref, id string
	sizes   chan [2]int
	signals chan int
	ended   chan struct{}
}

// execGuest is the program's side of the streams.
type execGuest struct {
	stdin, stdout, stderr, status, session, terminal *os.File
	aegis                                            *execAegis
}

func newExecAegis(program func(*execGuest)) *execAegis {
	return &execAegis{program: program, sizes: make(chan [2]int, 8), signals: make(chan int, 8), ended: make(chan struct{})}
}

func (a *execAegis) Exec(_ context.Context, ref string, spec api.ExecSpec) (string, *api.Streams, error) {
	a.ref, a.spec = ref, spec
	if a.err != nil {
		return "", nil, a.err
	}
	return "exec-1", a.start(spec), nil
}

func (a *execAegis) ReattachExec(_ context.Context, ref, id string) (*api.Streams, error) {
	a.ref, a.id = ref, id
	if a.err != nil {
		return nil, a.err
	}
	return a.start(a.spec), nil
}

func (a *execAegis) start(spec api.ExecSpec) *api.Streams {
	s, g := &api.Streams{}, &execGuest{aegis: a}
	s.Status, g.status = socketpair()
	s.Session, g.session = socketpair()
	if spec.TTY {
		s.Terminal, g.terminal = socketpair()
	} else {
		s.Stdout, g.stdout = socketpair()
		s.Stderr, g.stderr = socketpair()
	}
	if spec.Stdin {
		s.Stdin, g.stdin = socketpair()
	}
	go func() {
		defer close(a.ended)
		a.program(g)
		for _, f := range []*os.File{g.stdin, g.stdout, g.stderr, g.status, g.terminal, g.session} {
			f.Close() // nil or not
		}
	}()
	return s
}

func (a *execAegis) ResizeExec(_ context.Context, ref, id string, rows, cols int) error {
	if ref != a.ref || id != "exec-1" {
		return errors.New("resized another one")
	}
	a.sizes <- [2]int{rows, cols}
	return nil
}

func (a *execAegis) SignalExec(_ context.Context, ref, id string, n int) error {
	if ref != a.ref || id != "exec-1" {
		return errors.New("signalled another one")
	}
	a.signals <- n
	return nil
}

func (a *execAegis) Get(context.Context, string) (api.Instance, error) { return a.record, a.getErr }

func (g *execGuest) exit(code int) { proto.WriteStatus(g.status, proto.ProcessStatus{Code: code}) }

// gone waits until the client holds the status no more.
func (g *execGuest) gone() { g.status.Read(make([]byte, 1)) }

func TestExecConnectsTheProgramAndTellsItsEnd(t *testing.T) {
	aegis := newExecAegis(func(g *execGuest) {
		b, _ := io.ReadAll(g.stdin)
		g.stdout.Write(b)
		io.WriteString(g.stderr, "problem")
		g.exit(3)
	})
	c := newCaller(t, nil)
	stdin, w := pipe(t)
	io.WriteString(w, "input")
	w.Close()
	client := Client{Aegis: aegis, Stdin: stdin, Stdout: c.stdout, Stderr: c.stderr}
	code, err := client.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"x"}})
	if code != 3 || err != nil || content(t, c.stdout) != "input" || content(t, c.stderr) != "problem" {
		t.Errorf("code %d, %v, %q, %q", code, err, content(t, c.stdout), content(t, c.stderr))
	}
	if diff := cmp.Diff(api.ExecSpec{Command: []string{"x"}, Stdin: true}, aegis.spec); diff != "" || aegis.ref != "web" {
		t.Errorf("asked for in %q: %s", aegis.ref, diff)
	}
}

func TestExecSaysWhatWentWrong(t *testing.T) {
	refusal := api.Errorf(api.BadState, "instance web is stopped")
	for name, c := range map[string]struct {
		aegis *execAegis
		want  string
	}{
		"refused":        {&execAegis{err: refusal}, "instance web is stopped"},
		"machine failed": {&execAegis{record: api.Instance{Phase: api.PhaseFailed, LastError: "the guest's kernel panicked"}}, "the guest's kernel panicked"},
		"stopped":        {&execAegis{record: api.Instance{Phase: api.PhaseStopped}}, "it is stopped"},
		"deleted":        {&execAegis{getErr: api.Errorf(api.NotFound, "none")}, "deleted"},
		"aegisd gone":    {&execAegis{getErr: errors.New("no aegisd")}, "no aegisd"},
		"taken":          {&execAegis{record: api.Instance{Phase: api.PhaseRunning}}, "another client"},
	} {
		t.Run(name, func(t *testing.T) {
			c.aegis.program, c.aegis.ended = func(*execGuest) {}, make(chan struct{})
			out := newCaller(t, nil)
			client := Client{Aegis: c.aegis, Stdout: out.stdout, Stderr: out.stderr}
			code, err := client.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"x"}})
			if code != Failed || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("code %d, %v", code, err)
			}
		})
	}
}

func TestSignalsOfAnExecGoToItAndThenEndIt(t *testing.T) {
	aegis := newExecAegis(func(g *execGuest) {
		io.WriteString(g.stdout, "x")
		g.gone()
	})
	c := newCaller(t, nil)
	stdout, w := pipe(t)
	client := Client{Aegis: aegis, Stdout: w, Stderr: c.stderr, Signals: c.signals}
	go func() {
		stdout.Read(make([]byte, 1)) // it runs
		c.signals <- syscall.SIGINT
		if n := <-aegis.signals; n != int(syscall.SIGINT) {
			t.Errorf("it got signal %d", n)
		}
		c.signals <- syscall.SIGTERM
	}()
	code, err := client.Exec(t.Context(), "web", api.ExecSpec{Command: []string{"x"}})
	if code != 128+int(syscall.SIGTERM) || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
	<-aegis.ended // the streams were closed
}

// user is one at a terminal.
type user struct {
	screen, keys *os.File // the user's end
	tty          *os.File // the program's
	before       *term.State
}

func newUser(t *testing.T, rows, cols uint16) *user {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("SKIPPED: no pseudoterminals: %v", err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	u := &user{screen: ours, keys: ours, tty: theirs}
	u.resize(t, rows, cols)
	u.before = u.modes(t)
	return u
}

func (u *user) resize(t *testing.T, rows, cols uint16) {
	t.Helper()
	if err := pty.Setsize(u.tty, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		t.Fatal(err)
	}
}

func (u *user) modes(t *testing.T) *term.State {
	t.Helper()
	s, err := term.GetState(int(u.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sees reads the screen until text stands there.
func (u *user) sees(t *testing.T, text string) {
	t.Helper()
	u.screen.SetReadDeadline(time.Now().Add(20 * time.Second))
	seen := ""
	for b := make([]byte, 1); !strings.HasSuffix(seen, text); {
		if _, err := u.screen.Read(b); err != nil {
			t.Fatalf("the screen shows %q, %v", seen, err)
		}
		seen += string(b)
	}
}

func (u *user) client(t *testing.T, aegis api.Aegis) *Client {
	t.Helper()
	c, err := console.Open(u.tty)
	if err != nil {
		t.Fatal(err)
	}
	return &Client{Aegis: aegis, Console: c, Stdin: u.tty, Stdout: u.tty, Stderr: u.tty}
}

func ttySpec(c *Client) api.ExecSpec {
	spec := api.ExecSpec{Command: []string{"sh"}, Terminal: api.Terminal{TTY: true}}
	spec.Rows, spec.Cols = c.Console.Size()
	return spec
}

func TestATerminalIsRawWhileTheProgramHasIt(t *testing.T) {
	for _, size := range [][2]int{{24, 80}, {60, 200}} {
		u := newUser(t, uint16(size[0]), uint16(size[1]))
		aegis := newExecAegis(func(g *execGuest) {
			io.WriteString(g.terminal, "\x1b[2Jhello\r\n$ ")
			keys := make([]byte, 3)
			io.ReadFull(g.terminal, keys)
			io.WriteString(g.terminal, "got "+string(keys)+"\r\n")
			g.exit(4)
		})
		client := u.client(t, aegis)
		raw := make(chan *term.State, 1)
		go func() {
			u.sees(t, "\x1b[2Jhello\r\n$ ")
			raw <- u.modes(t)
			io.WriteString(u.keys, "\x03\rz") // no signal, no translation, no echo
		}()
		code, err := client.Exec(t.Context(), "web", ttySpec(client))
		if code != 4 || err != nil {
			t.Errorf("code %d, %v", code, err)
		}
		u.sees(t, "got \x03\rz\r\n")
		if cmp.Equal(*<-raw, *u.before, cmp.Exporter(all)) {
			t.Error("the terminal was not raw")
		}
		if diff := cmp.Diff(*u.before, *u.modes(t), cmp.Exporter(all)); diff != "" {
			t.Errorf("the terminal was left changed: %s", diff)
		}
		if got := <-aegis.sizes; got != size || aegis.spec.Rows != size[0] || aegis.spec.Cols != size[1] {
			t.Errorf("size %v, at first %dx%d, want %v", got, aegis.spec.Rows, aegis.spec.Cols, size)
		}
	}
}

func TestTheSizeIsFollowed(t *testing.T) {
	u := newUser(t, 24, 80)
	aegis := newExecAegis(nil)
	aegis.program = func(g *execGuest) {
		if got := <-aegis.sizes; got != [2]int{24, 80} {
			t.Errorf("first size %v", got)
		}
		u.resize(t, 60, 200)
		unix.Kill(os.Getpid(), unix.SIGWINCH) // it is nobody's controlling terminal
		if got := <-aegis.sizes; got != [2]int{60, 200} {
			t.Errorf("size %v after the change", got)
		}
		g.exit(0)
	}
	client := u.client(t, aegis)
	if code, err := client.Exec(t.Context(), "web", ttySpec(client)); code != 0 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestASignalGivesTheTerminalBackAtOnce(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		u := newUser(t, 24, 80)
		signals := make(chan os.Signal, 1)
		aegis := newExecAegis(func(g *execGuest) {
			io.WriteString(g.terminal, "ready")
			g.gone()
		})
		client := u.client(t, aegis)
		client.Signals = signals
		go func() {
			u.sees(t, "ready")
			signals <- sig
		}()
		if code, err := client.Exec(t.Context(), "web", ttySpec(client)); code != 128+int(sig) || err != nil {
			t.Errorf("code %d, %v", code, err)
		}
		<-aegis.ended
		if diff := cmp.Diff(*u.before, *u.modes(t), cmp.Exporter(all)); diff != "" {
			t.Errorf("%v left the terminal changed: %s", sig, diff)
		}
		if len(aegis.signals) > 0 {
			t.Errorf("the program got %v: its terminal's hangup is enough", sig)
		}
	}
}

// A guest that ends the terminal and never says that the program has must not
// keep the keys of its user from being signals.
func TestATerminalThatEndsIsGivenBackBeforeTheStatus(t *testing.T) {
	u := newUser(t, 24, 80)
	signals := make(chan os.Signal, 1)
	aegis := newExecAegis(func(g *execGuest) {
		g.terminal.Close()
		g.gone()
	})
	client := u.client(t, aegis)
	client.Signals = signals
	go func() {
		for !cmp.Equal(*u.before, *u.modes(t), cmp.Exporter(all)) || len(aegis.sizes) == 0 {
			runtime.Gosched()
		}
		signals <- syscall.SIGINT
	}()
	if code, err := client.Exec(t.Context(), "web", ttySpec(client)); code != 130 || err != nil {
		t.Errorf("code %d, %v", code, err)
	}
}

func TestReattachGivesADetachedProgramTheTerminal(t *testing.T) {
	u := newUser(t, 24, 80)
	aegis := newExecAegis(func(g *execGuest) {
		io.WriteString(g.terminal, "kept\r\n")
		g.exit(0)
	})
	aegis.spec.TTY = true
	if code, err := u.client(t, aegis).Reattach(t.Context(), "web", "exec-1"); code != 0 || err != nil || aegis.id != "exec-1" {
		t.Errorf("code %d, %v, of %q", code, err, aegis.id)
	}
	u.sees(t, "kept\r\n")
}

func TestKeysLeaveADetachedProgram(t *testing.T) {
	u := newUser(t, 24, 80)
	typed := make(chan string, 1)
	aegis := newExecAegis(func(g *execGuest) {
		io.WriteString(g.terminal, "ready")
		b, _ := io.ReadAll(g.terminal)
		typed <- string(b)
	})
	aegis.spec.TTY = true
	var notice string
	client := u.client(t, aegis)
	client.Notice = func(line string) { notice = line }
	go func() {
		u.sees(t, "ready")
		io.WriteString(u.keys, "a\x10b\x10\x10c\x11\x10\x11d")
	}()
	if code, err := client.Reattach(t.Context(), "web", "exec-1"); code != 0 || err != nil || !strings.Contains(notice, "aegis exec --attach exec-1 web") {
		t.Errorf("code %d, %v, said %q", code, err, notice)
	}
	if got := <-typed; got != "a\x10b\x10\x10c\x11" {
		t.Errorf("the program was typed %q", got)
	}
	if diff := cmp.Diff(*u.before, *u.modes(t), cmp.Exporter(all)); diff != "" {
		t.Errorf("the terminal was left changed: %s", diff)
	}
}

// all lets unexported fields be compared.
func all(reflect.Type) bool { return true }
