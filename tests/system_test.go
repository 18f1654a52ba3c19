// Package tests has the whole-system tests: what a user sees of `aegis run`,
// with real machines, the same in both compositions.
package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// limit ends a test that hangs; it is no measure of anything.
const limit = 2 * time.Minute

// onEveryHost runs a test standalone and under systemd, both at once: they
// share nothing, and each waits for half of its time.
func onEveryHost(t *testing.T, test func(t *testing.T, h *testbed.Host)) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	for name, host := range map[string]func(testing.TB) *testbed.Host{
		"standalone": testbed.Standalone,
		"system":     testbed.System,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := host(t)
			if got := aegis(t, h, nil, "up"); got.code != 0 {
				t.Fatalf("aegis up: exit %d\n%s%s", got.code, got.stdout, got.stderr)
			}
			test(t, h)
		})
	}
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// aegis runs the CLI on a host.
func aegis(t *testing.T, h *testbed.Host, stdin io.Reader, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return finish(ctx, t, h.Command(ctx, append([]string{"aegis"}, args...)...), stdin)
}

func finish(ctx context.Context, t *testing.T, cmd *exec.Cmd, stdin io.Reader) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%v did not end within %v\n%s", cmd.Args, limit, stderr.String())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func TestRunBehavesLikeTheProgramItself(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		quiet := make(chan result)
		// Longer than any request between the parts may take.
		go func() {
			defer close(quiet)
			quiet <- aegis(t, h, nil, "run", "--", "sh", "-c", "sleep 12; echo awake")
		}()
		for _, c := range []struct {
			name   string
			args   []string
			stdin  string
			stdout string
			stderr string // contained
			code   int
		}{
			{name: "prints hello", args: []string{"--", "echo", "hello"}, stdout: "hello\n"},
			{name: "needs no dashes", args: []string{"echo", "-n", "hello"}, stdout: "hello"},
			{name: "runs python", args: []string{"--", "python3", "-c", "print(6*7)"}, stdout: "42\n"},
			{name: "keeps stderr apart", args: []string{"--", "sh", "-c", "echo out; echo err >&2"}, stdout: "out\n", stderr: "err\n"},
			{name: "passes the exit code", args: []string{"--", "sh", "-c", "exit 3"}, code: 3},
			{name: "names an unknown command", args: []string{"--", "nosuchcommand"}, stderr: "nosuchcommand", code: 127},
			{name: "names what cannot be executed", args: []string{"--", "/etc/passwd"}, stderr: "/etc/passwd", code: 126},
			{name: "maps a signal", args: []string{"--", "sh", "-c", "kill -9 $$"}, code: 137},
			{name: "passes stdin", args: []string{"-i", "--", "cat"}, stdin: "some\x00bytes", stdout: "some\x00bytes"},
			{name: "has no stdin without -i", args: []string{"--", "cat"}, stdin: "ignored"},
			{name: "sets the environment", args: []string{"--env", "A=b=c", "--", "sh", "-c", "echo $A"}, stdout: "b=c\n"},
			{name: "sets the directory", args: []string{"--workdir", "/usr", "--", "pwd"}, stdout: "/usr\n"},
			{name: "sets the user", args: []string{"--user", "nobody", "--", "id", "-un"}, stdout: "nobody\n"},
			{name: "leaves a background child behind", args: []string{"--", "sh", "-c", "sleep 1000 & echo gone"}, stdout: "gone\n"},
			{name: "ends at the timeout", args: []string{"--timeout", "2s", "--", "sleep", "1000"}, code: 124},
			{name: "refuses no memory", args: []string{"--memory", "0", "--", "true"}, stderr: "memory", code: 125},
			{name: "refuses absurd memory", args: []string{"--memory", "99999999", "--", "true"}, stderr: "memory", code: 125},
			{name: "refuses memory beyond numbers", args: []string{"--memory", "99999999999999999999G", "--", "true"}, stderr: "memory", code: 125},
			{name: "refuses processors beyond numbers", args: []string{"--cpus", "99999999999999999999", "--", "true"}, stderr: "cpu", code: 125},
			{name: "refuses no processors", args: []string{"--cpus", "0", "--", "true"}, stderr: "cpu", code: 125},
			{name: "refuses absurd processors", args: []string{"--cpus", "500", "--", "true"}, stderr: "cpu", code: 125},
			{name: "names a missing image", args: []string{"--image", "/nonexistent", "--", "true"}, stderr: "/nonexistent", code: 125},
			{name: "names an unreadable image", args: []string{"--image", "/etc", "--", "true"}, stderr: "/etc", code: 125},
			{name: "refuses an unknown flag", args: []string{"--nosuch", "--", "true"}, stderr: "nosuch", code: 2},
		} {
			t.Run(c.name, func(t *testing.T) {
				got := aegis(t, h, strings.NewReader(c.stdin), append([]string{"run"}, c.args...)...)
				if got.code != c.code || got.stdout != c.stdout || !strings.Contains(got.stderr, c.stderr) {
					t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q, ...%q...", got.code, got.stdout, got.stderr, c.code, c.stdout, c.stderr)
				}
				if got.code == 125 && strings.Count(got.stderr, "\n") != 1 {
					t.Errorf("a refusal is one line, got %q", got.stderr)
				}
			})
		}
		if got := <-quiet; got.code != 0 || got.stdout != "awake\n" {
			t.Errorf("a program that is quiet for a while: exit %d, stdout %q, stderr %q", got.code, got.stdout, got.stderr)
		}
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

func TestLargeOutputArrivesWhole(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		t.Run("20,000 lines", func(t *testing.T) {
			got := aegis(t, h, nil, "run", "--", "seq", "1", "20000")
			if n := strings.Count(got.stdout, "\n"); n != 20000 || !strings.HasSuffix(got.stdout, "\n20000\n") {
				t.Errorf("%d lines arrived, ending in %q", n, tail(got.stdout))
			}
		})
		t.Run("one line of 10 MiB", func(t *testing.T) {
			got := aegis(t, h, nil, "run", "--", "python3", "-c", "print('x'*(10<<20))")
			if len(got.stdout) != 10<<20+1 || strings.Trim(got.stdout, "x") != "\n" {
				t.Errorf("%d bytes arrived", len(got.stdout))
			}
		})
		t.Run("random bytes there and back", func(t *testing.T) {
			data := make([]byte, 16<<20)
			rand.NewChaCha8([32]byte{}).Read(data)
			got := aegis(t, h, bytes.NewReader(data), "run", "-i", "--", "cat")
			if sha256.Sum256([]byte(got.stdout)) != sha256.Sum256(data) {
				t.Errorf("%d of %d bytes arrived, or other ones", len(got.stdout), len(data))
			}
		})
	})
}

func tail(s string) string { return s[max(0, len(s)-80):] }
