package tests

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

func TestExecBehavesLikeTheProgramItself(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		if got := aegis(t, h, nil, "instance", "start", "--name", "web", "--env", "OF=web", "--", "sleep", "100000"); got.code != 0 {
			t.Fatalf("start: exit %d, %s", got.code, got.stderr)
		}
		for _, c := range []struct {
			name   string
			args   []string
			stdin  string
			stdout string
			stderr string // contained
			code   int
		}{
			{name: "prints hello", args: []string{"web", "--", "echo", "hello"}, stdout: "hello\n"},
			{name: "keeps stderr apart", args: []string{"web", "sh", "-c", "echo out; echo err >&2; exit 3"}, stdout: "out\n", stderr: "err\n", code: 3},
			{name: "passes stdin", args: []string{"-i", "web", "cat"}, stdin: "some\x00bytes", stdout: "some\x00bytes"},
			{name: "inherits the environment", args: []string{"web", "sh", "-c", "echo $OF"}, stdout: "web\n"},
			{name: "sets what it is told", args: []string{"--env", "OF=me", "--user", "nobody", "--workdir", "/tmp", "web", "sh", "-c", "echo $OF; id -un; pwd"}, stdout: "me\nnobody\n/tmp\n"},
			{name: "maps a signal", args: []string{"web", "sh", "-c", "kill -9 $$"}, code: 137},
			{name: "names an unknown command", args: []string{"web", "nosuchcommand"}, stderr: "nosuchcommand", code: 127},
			{name: "ends at the timeout", args: []string{"--timeout", "300ms", "web", "sleep", "1000"}, stderr: "timed out", code: 124},
			{name: "leaves a background child behind", args: []string{"web", "sh", "-c", "sleep 10 & echo gone"}, stdout: "gone\n"},
			{name: "needs an instance", args: []string{"nosuch", "true"}, stderr: "nosuch", code: 125},
			{name: "needs a terminal for -t", args: []string{"-t", "web", "true"}, stderr: "no terminal", code: 2},
		} {
			t.Run(c.name, func(t *testing.T) {
				got := aegis(t, h, strings.NewReader(c.stdin), append([]string{"exec"}, c.args...)...)
				if got.code != c.code || got.stdout != c.stdout || !strings.Contains(got.stderr, c.stderr) {
					t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q, ...%q...", got.code, got.stdout, got.stderr, c.code, c.stdout, c.stderr)
				}
			})
		}
		t.Run("dies with its client", func(t *testing.T) { killedClient(t, h) })
		t.Run("goes on when it is detached", func(t *testing.T) { leftExec(t, h) })
		t.Run("is logged when it is detached", func(t *testing.T) { loggedExec(t, h) })
		t.Run("ends whole when it is cut off", func(t *testing.T) { cutOff(t, h) })
		t.Run("has a terminal", func(t *testing.T) { shell(t, h) })
		t.Run("has a terminal of any size", func(t *testing.T) { sizedTerminal(t, h) })
	})
}

// killedClient kills a client with no chance to say so.
func killedClient(t *testing.T, h *testbed.Host) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := h.Command(ctx, "aegis", "exec", "web", "sh", "-c", "echo ready; exec sleep 4242")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, len("ready")))
	killCLI(t, h, cmd)
	cmd.Wait()
	await(t, func(got result) bool { return got.code == 0 && !strings.Contains(got.stdout, "4242") }, h, "exec", "--list", "web")
	if got := aegis(t, h, nil, "exec", "web", "pgrep", "-x", "-f", "sleep 4242"); got.code != 1 {
		t.Errorf("pgrep: exit %d, %q", got.code, got.stdout)
	}
}

// await asks again and again until the answer is as it should be: of what only
// the guest knows there are no events.
func await(t *testing.T, want func(result) bool, h *testbed.Host, args ...string) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		got := aegis(t, h, nil, args...)
		if want(got) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("aegis %q: exit %d\n%s%s", args, got.code, got.stdout, got.stderr)
		}
	}
}

// killCLI kills the CLI itself, not what brought it onto the host.
func killCLI(t *testing.T, h *testbed.Host, cmd *exec.Cmd) {
	t.Helper()
	if h.Name == "standalone" {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if got := finish(ctx, t, h.Command(ctx, "pkill", "-KILL", "-x", "aegis"), nil); got.code != 0 {
		t.Fatalf("pkill: %+v", got)
	}
}

func leftExec(t *testing.T, h *testbed.Host) {
	got := aegis(t, h, nil, "exec", "--detach", "web", "sh", "-c", "echo kept; exit 5")
	id := strings.TrimSpace(got.stdout)
	if got.code != 0 || !strings.HasPrefix(id, "exec-") {
		t.Fatalf("detach: exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	if got := aegis(t, h, nil, "exec", "--attach", id, "web"); got.code != 5 || got.stdout != "kept\n" {
		t.Errorf("attach: exit %d, %q, %q", got.code, got.stdout, got.stderr)
	}
	if got := aegis(t, h, nil, "exec", "--attach", id, "web"); got.code != 125 || !strings.Contains(got.stderr, id) {
		t.Errorf("attach after the end: exit %d, %q", got.code, got.stderr)
	}
}

// loggedExec kills aegisd while a detached program is between two lines.
func loggedExec(t *testing.T, h *testbed.Host) {
	script := "echo one; echo problem >&2; until test -e /tmp/go; do sleep 0.1; done; echo two"
	id := strings.TrimSpace(aegis(t, h, nil, "exec", "--detach", "web", "sh", "-c", script).stdout)
	killDaemon(t, h, "aegisd")
	if got := aegis(t, h, nil, "up"); got.code != 0 {
		t.Fatalf("aegis up: %+v", got)
	}
	if got := aegis(t, h, nil, "exec", "web", "touch", "/tmp/go"); got.code != 0 {
		t.Fatalf("telling it to go on: %+v", got)
	}
	await(t, func(got result) bool {
		return got.stdout == "[exec] one\n[exec] two\n" && strings.Contains(got.stderr, "[exec] problem\n")
	}, h, "logs", "--exec-id", id, "web")
	if got := aegis(t, h, nil, "exec", "--attach", id, "web"); got.code != 0 || got.stdout != "one\ntwo\n" {
		t.Errorf("attach: %+v", got)
	}
}

// cutOff has programs that leave their session: one on purpose, one as part of
// what runs out of time.
func cutOff(t *testing.T, h *testbed.Host) {
	if got := aegis(t, h, nil, "exec", "web", "sh", "-c", "setsid sleep 4343 >/dev/null 2>&1 & echo left"); got.stdout != "left\n" {
		t.Errorf("one that leaves a server behind: %+v", got)
	}
	if got := aegis(t, h, nil, "exec", "--timeout", "500ms", "web", "sh", "-c", "setsid sleep 4344 >/dev/null 2>&1 & wait"); got.code != 124 {
		t.Errorf("one that runs out of time: %+v", got)
	}
	await(t, func(got result) bool { return got.code == 1 }, h, "exec", "web", "pgrep", "-x", "-f", "sleep 4344")
	if got := aegis(t, h, nil, "exec", "web", "pkill", "-x", "-f", "sleep 4343"); got.code != 0 {
		t.Errorf("the server that was left behind is gone: %+v", got)
	}
}

// shell types into a shell on a terminal.
func shell(t *testing.T, h *testbed.Host) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := h.Command(ctx, "aegis", "exec", "-it", "--env", "PS1=% ", "web", "--", "sh")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 60, Cols: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	stop := context.AfterFunc(ctx, func() { tty.Close() })
	defer stop()
	for _, step := range []struct{ types, shows string }{
		{"", "% "},
		{"stty size; test -t 0 && echo is one\r", "\n60 200\r\nis one\r\n% "},
		{"sh -c 'echo rea''dy; exec sleep 1000'\r", "\nready\r\n"},
		{"\x03", "% "},
		{"echo code $?\r", "\ncode 130\r\n% "},
		{"exit 6\r", ""},
	} {
		io.WriteString(tty, step.types)
		if !screen(t, tty, step.shows) {
			return
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 6 {
		t.Errorf("the shell ended with %v", err)
	}
}

// screen reads until the terminal shows text.
func screen(t *testing.T, tty *os.File, text string) bool {
	t.Helper()
	var seen bytes.Buffer
	for b := make([]byte, 1); !bytes.HasSuffix(seen.Bytes(), []byte(text)); {
		if _, err := tty.Read(b); err != nil {
			t.Errorf("the terminal showed %q, then %v, not %q", seen.String(), err, text)
			return false
		}
		seen.Write(b)
	}
	return true
}
