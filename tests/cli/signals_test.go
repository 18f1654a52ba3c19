package cli

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// TestSignals sends the CLI what a terminal or an init system would.
func TestSignals(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h := testbed.Standalone(t)
	up(t, h)
	const traps = "trap 'echo caught; exit 7' INT TERM HUP; echo ready; sleep 1000 & while :; do wait; done"
	const ignores = "trap 'echo caught' INT TERM; echo ready; while :; do sleep 1000 & wait; done"
	// A shell would do, but for the moment between its echo and its next
	// fork, in which it keeps a signal to itself until the child has ended.
	const plain = "echo ready >/tmp/line; exec tail -f /tmp/line"
	for _, c := range []struct {
		name    string
		program string
		signals []os.Signal // one after each line of output
		code    int
		output  string
	}{
		{"the first Ctrl-C goes to the program", traps, []os.Signal{syscall.SIGINT}, 7, "ready caught"},
		{"so does SIGTERM", traps, []os.Signal{syscall.SIGTERM}, 7, "ready caught"},
		{"the second Ctrl-C tears down", ignores, []os.Signal{syscall.SIGINT, syscall.SIGINT}, 130, "ready caught"},
		{"a hangup tears down", "echo ready; sleep 1000", []os.Signal{syscall.SIGHUP}, 129, "ready"},
		{"an untrapped one ends the program", plain, []os.Signal{syscall.SIGINT}, 130, "ready"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			cmd := h.Command(ctx, "aegis", "run", "--", "sh", "-c", c.program)
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			var seen []string
			signals := c.signals
			for lines := bufio.NewScanner(out); lines.Scan(); {
				seen = append(seen, lines.Text())
				if len(signals) > 0 {
					if err := cmd.Process.Signal(signals[0]); err != nil {
						t.Error(err)
					}
					signals = signals[1:]
				}
			}
			err = cmd.Wait()
			if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != c.code || strings.Join(seen, " ") != c.output {
				t.Errorf("exit %d, output %q, stderr %q; want %d, %q", got, seen, stderr.String(), c.code, c.output)
			}
			status, err := h.Command(ctx, "aegis", "status").Output()
			if err != nil || !strings.Contains(string(status), "none") {
				t.Errorf("left behind: %v\n%s", err, status)
			}
		})
	}
}

// TestInterruptedBoot sends Ctrl-C before there is a program to get it.
func TestInterruptedBoot(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h := testbed.Standalone(t)
	up(t, h)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	events, err := restapi.NewClient(filepath.Join(h.Home, "aegisd.sock")).Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cmd := h.Command(ctx, "aegis", "run", "--", "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for ev := range events {
		if ev.Type == api.EventProgress && ev.Message == "booting" {
			break
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 130 {
		t.Errorf("exit %d, want 130", got)
	}
	status, err := h.Command(ctx, "aegis", "status").Output()
	if err != nil || !strings.Contains(string(status), "none") {
		t.Errorf("left behind: %v\n%s", err, status)
	}
}
