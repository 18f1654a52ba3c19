package command

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// execAegis has one instance, in which every program says its first argument
// and ends with code 3.
type execAegis struct {
	api.Aegis
	created chan api.InstanceSpec
	started chan api.ExecSpec
}

func newExecAegis() *execAegis {
	return &execAegis{created: make(chan api.InstanceSpec, 1), started: make(chan api.ExecSpec, 1)}
}

func (a *execAegis) Get(context.Context, string) (api.Instance, error) {
	return api.Instance{ID: "inst-1"}, nil
}

func (a *execAegis) Create(_ context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	a.created <- spec
	return api.Instance{ID: "inst-1"}, nil
}

func (a *execAegis) Attach(context.Context, string) (*api.Streams, error) {
	spec := <-a.created
	a.created <- spec
	return a.run(api.ExecSpec{Command: spec.Command, Terminal: spec.Terminal, Stdin: spec.Stdin}), nil
}

func (a *execAegis) Delete(context.Context, string) error { return nil }

func (a *execAegis) Exec(_ context.Context, ref string, spec api.ExecSpec) (string, *api.Streams, error) {
	if ref != "inst-1" {
		return "", nil, api.Errorf(api.NotFound, "no instance %q", ref)
	}
	a.started <- spec
	if spec.Detach {
		return "exec-1", nil, nil
	}
	return "exec-1", a.run(spec), nil
}

func (a *execAegis) ReattachExec(_ context.Context, _, id string) (*api.Streams, error) {
	return a.run(api.ExecSpec{Command: []string{"x", id}, Terminal: api.Terminal{TTY: true}}), nil
}

func (a *execAegis) Rejoin(context.Context, string) (*os.File, error) {
	return nil, api.Errorf(api.BadState, "it rests")
}

func (a *execAegis) ResizeExec(context.Context, string, string, int, int) error { return nil }

func (a *execAegis) Execs(context.Context, string) ([]api.ExecInfo, error) {
	code := 3
	return []api.ExecInfo{
		{ID: "main", Command: []string{"serve", "a\x1bb"}, StartedAt: time.Unix(1, 0)},
		{ID: "exec-1", Command: []string{"top"}, TTY: true, Detached: true},
		{ID: "exec-2", Command: []string{"false"}, ExitCode: &code},
	}, nil
}

// run plays the program.
func (a *execAegis) run(spec api.ExecSpec) *api.Streams {
	s := &api.Streams{}
	ends := map[**os.File]*os.File{}
	for _, f := range []**os.File{&s.Stdout, &s.Stderr, &s.Status, &s.Session, &s.Terminal, &s.Stdin} {
		tty := f == &s.Terminal
		if tty != spec.TTY && f != &s.Status && f != &s.Session || f == &s.Stdin && !spec.Stdin {
			continue
		}
		*f, ends[f] = socketpair()
	}
	out := ends[&s.Stdout]
	if spec.TTY {
		out = ends[&s.Terminal]
	}
	go func() { // ends at once
		io.WriteString(out, spec.Command[1]+"\n")
		proto.WriteStatus(ends[&s.Status], proto.ProcessStatus{Code: 3})
		for _, f := range ends {
			f.Close()
		}
	}()
	return s
}

func socketpair() (a, b *os.File) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
}

func TestExecTurnsFlagsIntoASpec(t *testing.T) {
	for _, c := range []struct {
		args []string
		want api.ExecSpec
		out  string
		code int
	}{
		{[]string{"web", "echo", "-n", "--", "x"}, api.ExecSpec{Command: []string{"echo", "-n", "--", "x"}}, "-n\n", 3},
		{[]string{"web", "--", "--strange", "y"}, api.ExecSpec{Command: []string{"--strange", "y"}}, "y\n", 3},
		{[]string{"--detach", "web", "--", "serve"}, api.ExecSpec{Command: []string{"serve"}, Detach: true}, "exec-1\n", 0},
		{[]string{"--detach", "-t", "web", "top"}, api.ExecSpec{Command: []string{"top"}, Detach: true, Terminal: api.Terminal{TTY: true}}, "exec-1\n", 0},
		{
			[]string{"-i", "--env", "A=1", "--env", "B=", "--env", "S", "--env", "T=secret.S", "--workdir", "/tmp", "--user", "nobody", "--timeout", "1m30s", "web", "--", "x", "z"},
			api.ExecSpec{
				Command: []string{"x", "z"}, Stdin: true, Env: map[string]string{"A": "1", "B": ""}, Workdir: "/tmp",
				User: "nobody", TimeoutMS: 90000, Secrets: []string{"S"}, EnvSecrets: map[string]string{"T": "S"},
			},
			"z\n", 3,
		},
	} {
		a := newExecAegis()
		serve(t, a)
		code, stdout, stderr := aegis(t, append([]string{"exec"}, c.args...)...)
		if code != c.code || stdout != c.out || stderr != "" {
			t.Errorf("%v: exit %d, %q, %q", c.args, code, stdout, stderr)
		}
		if diff := cmp.Diff(c.want, <-a.started); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.args, diff)
		}
	}
}

func TestExecListsWhatRuns(t *testing.T) {
	serve(t, newExecAegis())
	code, stdout, stderr := aegis(t, "exec", "--list", "web")
	for _, want := range []string{"main", `serve a\x1bb`, "running", "detached", "tty", "exited 3"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the list does not say %q:\n%s", want, stdout)
		}
	}
	if code != 0 || stderr != "" || strings.Contains(stdout, "\x1b") {
		t.Errorf("exit %d, %q", code, stderr)
	}
	_, stdout, _ = aegis(t, "exec", "--list", "-o", "json", "web")
	var all []api.ExecInfo
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) != 3 || all[1].ID != "exec-1" {
		t.Errorf("as JSON: %v, %s", err, stdout)
	}
}

func TestExecOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	for _, c := range []struct {
		rows, cols uint16
		args       []string
		says       string
	}{
		{24, 80, []string{"exec", "-it", "web", "--", "sh", "hello"}, "hello"},
		{60, 200, []string{"exec", "-t", "web", "sh", "hello"}, "hello"},
		{24, 80, []string{"exec", "--attach", "exec-7", "web"}, "exec-7"},
		{24, 80, []string{"attach", "web"}, "main"},
		{60, 200, []string{"run", "-it", "--", "sh", "hello"}, "hello"},
	} {
		a := newExecAegis()
		serve(t, a)
		code, screen := onTerminal(t, c.rows, c.cols, c.args...)
		if code != 3 || !strings.Contains(screen, c.says+"\n") {
			t.Errorf("%v: exit %d, the screen shows %q", c.args, code, screen)
		}
		want := api.Terminal{TTY: true, Rows: int(c.rows), Cols: int(c.cols), Term: "xterm-256color"}
		select {
		case spec := <-a.started:
			if spec.Terminal != want || spec.Stdin {
				t.Errorf("%v asked for %+v", c.args, spec)
			}
		case spec := <-a.created:
			if spec.Terminal != want || spec.Stdin || !spec.Attach || !spec.AutoRemove {
				t.Errorf("%v asked for %+v", c.args, spec)
			}
		default: // attached to what there was
		}
	}
}

// onTerminal runs the CLI on a terminal and returns what that showed. It wants
// the terminal back as it was.
func onTerminal(t *testing.T, rows, cols uint16, args ...string) (code int, screen string) {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("SKIPPED: no pseudoterminals: %v", err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	if err := pty.Setsize(theirs, &pty.Winsize{Rows: rows, Cols: cols}); err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	const end = "\x00"
	shown := make(chan string)
	go func() { // ends with the mark
		b, _ := bufio.NewReader(ours).ReadString(0)
		shown <- strings.TrimSuffix(b, end)
	}()
	code = Main(args, theirs, theirs, theirs)
	after, err := term.GetState(int(theirs.Fd()))
	if diff := cmp.Diff(before, after, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" || err != nil {
		t.Errorf("%v left the terminal changed: %v %s", args, err, diff)
	}
	io.WriteString(theirs, end)
	return code, <-shown
}
