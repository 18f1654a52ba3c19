// Package cli has the tests of the CLI as scripts: those in testdata/usage
// need nothing, those in testdata/machine run real machines, in both
// compositions.
package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/xfeldman/aegisvm/daemons/aegis/command"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// TestMain makes this program the CLI for the scripts that need no other one.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"aegis": func() { os.Exit(command.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

func TestUsage(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/usage",
		Cmds: commands,
		Setup: func(env *testscript.Env) error {
			env.Setenv("AEGIS_HOME", env.WorkDir)
			env.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
			return nil
		},
	})
}

func TestStandalone(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	onHost(t, testbed.Standalone(t))
}

func TestSystem(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	onHost(t, testbed.System(t))
}

// TestDown stops a host's aegisd while a program runs.
func TestDown(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	for name, host := range map[string]func(testing.TB) *testbed.Host{"standalone": testbed.Standalone, "system": testbed.System} {
		t.Run(name, func(t *testing.T) { down(t, host(t)) })
	}
}

func down(t *testing.T, h *testbed.Host) {
	up(t, h)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	run := h.Command(ctx, "aegis", "run", "--", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := run.StdoutPipe()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the program said %q, %v", line, err)
	}
	for _, step := range []struct {
		command string
		code    int
		said    string
	}{
		{"down", 0, "aegisd is stopped, and 1 of your machines with it\n"},
		{"status", 1, "aegisd is not running at "},
		{"down", 0, "aegisd is not running\n"},
		{"up", 0, "aegisd is running: "},
	} {
		cmd := h.Command(ctx, "aegis", step.command)
		out, err := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != step.code || !strings.HasPrefix(string(out), step.said) {
			t.Errorf("%s: exit %d, %q, %v; want %d, %q", step.command, got, out, err, step.code, step.said)
		}
	}
	run.Wait()
	if got, want := run.ProcessState.ExitCode(), 128+int(syscall.SIGTERM); got != want {
		t.Errorf("the program ended with %d, want %d", got, want)
	}
}

// onHost runs the scripts with the CLI of a host.
func onHost(t *testing.T, h *testbed.Host) {
	up(t, h)
	bin := wrapper(t, h)
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/machine",
		Cmds: commands,
		Condition: func(name string) (bool, error) {
			if name == "standalone" || name == "system" {
				return name == h.Name, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
			base, err := filepath.Abs("../../share/aegisvm/base")
			if err != nil {
				return err
			}
			env.Setenv("BASE", base)
			return nil
		},
	})
}

func up(t *testing.T, h *testbed.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := h.Command(ctx, "aegis", "up").CombinedOutput(); err != nil {
		t.Fatalf("aegis up: %v\n%s", err, out)
	}
}

// wrapper makes a folder with a program aegis that is the host's, with the
// host's environment.
func wrapper(t *testing.T, h *testbed.Host) string {
	t.Helper()
	dir := t.TempDir()
	cmd := h.Command(context.Background(), "aegis")
	script := "#!/bin/sh\n"
	for _, kv := range cmd.Env {
		if strings.HasPrefix(kv, "AEGIS_") {
			script += "export " + quote(kv) + "\n"
		}
	}
	script += "exec"
	for _, a := range cmd.Args {
		script += " " + quote(a)
	}
	if err := os.WriteFile(filepath.Join(dir, "aegis"), []byte(script+" \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commands are what the scripts have beside testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits":   exits,
	"oneline": oneLine,
}

// exits CODE PROGRAM ARG... runs a program and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d\nstderr: %s", got, want, ts.ReadFile("stderr"))
	}
}

// oneline checks that the last stderr is one line and stdout is empty.
func oneLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: oneline")
	}
	if out, err := ts.ReadFile("stdout"), ts.ReadFile("stderr"); out != "" || strings.Count(err, "\n") != 1 {
		ts.Fatalf("stdout %q, stderr %q; want one line on stderr", out, err)
	}
}
