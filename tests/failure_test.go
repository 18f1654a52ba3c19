package tests

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// running is a `aegis run` whose program has said that it is up.
type running struct {
	*exec.Cmd
	host   *testbed.Host
	stdout *bufio.Reader
	stderr *bytes.Buffer
}

// begin runs a shell script in a machine and waits until it prints "up".
func begin(t *testing.T, h *testbed.Host, script string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	r := &running{host: h, Cmd: h.Command(ctx, "aegis", "run", "--", "sh", "-c", script), stderr: &bytes.Buffer{}}
	r.Stderr = r.stderr
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdout = bufio.NewReader(out)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := r.stdout.ReadString('\n'); err != nil || line != "up\n" {
		r.Wait()
		t.Fatalf("the program said %q, %v; stderr %q", line, err, r.stderr)
	}
	return r
}

// end waits for the CLI and returns how it ended, with what it still printed.
func (r *running) end(t *testing.T) result {
	t.Helper()
	rest, err := io.ReadAll(r.stdout)
	if err != nil {
		t.Fatal(err)
	}
	r.Wait()
	return result{string(rest), r.stderr.String(), r.ProcessState.ExitCode()}
}

// kill sends SIGKILL to the processes of a host's machines whose command line
// has the word: "qemu-system" or "aegis-vmm-worker".
const kill = `
for m in $(ls "$1" /run/aegis/vmm 2>/dev/null | grep '^m-'); do
	for p in $(pgrep -f "name aegis-$m"); do
		case $2 in worker) p=$(ps -o ppid= -p $p) ;; esac
		kill -KILL $p && echo killed
	done
done
`

func killMachines(t *testing.T, h *testbed.Host, what string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	machines := "/nonexistent"
	if h.Name == "standalone" {
		machines = filepath.Join(h.Home, "data/machines")
	}
	if got := finish(ctx, t, h.Command(ctx, "sh", "-c", kill, "sh", machines, what), nil); got.stdout != "killed\n" {
		t.Fatalf("killing the %s: %+v", what, got)
	}
}

func TestWhatEndsAMachineIsSaidPlainly(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		for _, c := range []struct {
			name, script string
			act          func(t *testing.T, r *running)
			stderr       string
			code         int
		}{
			{
				name: "the monitor is killed", script: "echo up; sleep 1000",
				act: func(t *testing.T, _ *running) { killMachines(t, h, "monitor") }, stderr: "killed", code: 125,
			},
			{
				name: "the worker is killed", script: "echo up; sleep 1000",
				act: func(t *testing.T, _ *running) { killMachines(t, h, "worker") }, stderr: "worker", code: 125,
			},
			{
				name: "the guest's kernel panics", script: "trap 'kill -ABRT 1' INT; echo up; while :; do sleep 0.1; done",
				act: interrupt, stderr: "panic", code: 125,
			},
			{
				name: "one Ctrl-C goes to the program", script: "trap 'echo caught; exit 9' INT; echo up; while :; do sleep 0.1; done",
				act: interrupt, code: 9,
			},
			{
				name: "two Ctrl-C tear the machine down", script: "trap 'echo caught' INT; echo up; while :; do sleep 0.1; done",
				act: func(t *testing.T, r *running) {
					interrupt(t, r)
					if line, err := r.stdout.ReadString('\n'); err != nil || line != "caught\n" {
						t.Errorf("the program said %q, %v", line, err)
					}
					interrupt(t, r)
				}, code: 130,
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				r := begin(t, h, c.script)
				if during := inventory(t, h); held(t, during) <= held(t, before) {
					t.Errorf("the inventory sees no machine while one runs:\n%s", during)
				}
				c.act(t, r)
				got := r.end(t)
				if got.code != c.code || !strings.Contains(got.stderr, c.stderr) {
					t.Errorf("exit %d, stderr %q; want %d, ...%q...", got.code, got.stderr, c.code, c.stderr)
				}
				if after := inventory(t, h); after != before {
					t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
				}
			})
		}
	})
}

// interrupt presses Ctrl-C: the signal goes to the CLI itself.
func interrupt(t *testing.T, r *running) {
	t.Helper()
	if r.host.Name == "standalone" {
		if err := r.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if got := finish(ctx, t, r.host.Command(ctx, "pkill", "-INT", "-x", "aegis"), nil); got.code != 0 {
		t.Errorf("pkill: %+v", got)
	}
}

func TestAMachineOutlivesTheDaemons(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		for _, daemon := range map[string][]string{"standalone": {"aegisd"}, "system": {"aegisd", "aegis-vmmd", "aegis-imaged"}}[h.Name] {
			t.Run(daemon, func(t *testing.T) {
				r := begin(t, h, "echo up; read line </proc/sys/kernel/hostname; until [ -e /tmp/go ]; do sleep 0.1; n=$((n+1)); [ $n -lt 30 ] || : >/tmp/go; done; echo still here; exit 5")
				killDaemon(t, h, daemon)
				got := r.end(t)
				if got.stdout != "still here\n" || got.code != 5 {
					t.Errorf("exit %d, stdout %q, stderr %q; want the program's output and code", got.code, got.stdout, got.stderr)
				}
				// Nobody starts a standalone aegisd again.
				said := ""
				if h.Name == "standalone" {
					said = "aegis: the machine is not released yet, aegisd does that when it can: aegisd is not running: start it with `aegis up`\n"
				}
				if got.stderr != said {
					t.Errorf("stderr %q; want %q", got.stderr, said)
				}
				if up := aegis(t, h, nil, "up"); up.code != 0 {
					t.Fatalf("aegis up: %+v", up)
				}
				if got := aegis(t, h, nil, "run", "--", "echo", "again"); got.stdout != "again\n" {
					t.Errorf("the next run: %+v", got)
				}
			})
		}
		if h.Name == "standalone" {
			settle(t, h) // the client could not take its leave
		}
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

func TestDownStopsMachinesThatOutlivedTheirDaemon(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		r := begin(t, h, "echo up; sleep 1000")
		killDaemon(t, h, "aegisd")
		if got := aegis(t, h, nil, "down"); got.code != 0 {
			t.Errorf("aegis down: %+v", got)
		}
		// SIGTERM ends the program, or its machine goes first.
		if got := r.end(t); got.code != 143 && got.code != 125 {
			t.Errorf("the run ended with %+v", got)
		}
		if got := aegis(t, h, nil, "up"); got.code != 0 {
			t.Fatalf("aegis up: %+v", got)
		}
		awaitNone(t, h)
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// settle makes a daemon sweep up after runs whose clients could not take
// their leave. It waits for them a minute, unless it is stopped and started.
func settle(t *testing.T, h *testbed.Host) {
	t.Helper()
	for _, verb := range []string{"down", "up"} {
		if got := aegis(t, h, nil, verb); got.code != 0 {
			t.Fatalf("aegis %s: %+v", verb, got)
		}
	}
	awaitNone(t, h)
}

// awaitNone waits until a daemon that has just been started has swept up.
func awaitNone(t *testing.T, h *testbed.Host) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	client := restapi.NewClient(h.Socket)
	defer client.Close()
	events, err := client.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if all, err := client.List(ctx); err != nil || len(all) == 0 {
			return // the inventory tells
		}
		if _, more := <-events; !more {
			t.Fatal("the instances do not go")
		}
	}
}

func killDaemon(t *testing.T, h *testbed.Host, name string) {
	t.Helper()
	signalDaemon(t, h, name, "KILL")
}

// signalDaemon sends a signal to the main process of a daemon.
func signalDaemon(t *testing.T, h *testbed.Host, name, signal string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := h.Command(ctx, "sh", "-c", "kill -"+signal+" $(systemctl show --value --property=MainPID "+name+")")
	if h.Name == "standalone" {
		pid, err := os.ReadFile(filepath.Join(h.Home, "data/aegisd.pid"))
		if err != nil {
			t.Fatal(err)
		}
		cmd = h.Command(ctx, "kill", "-"+signal, strings.TrimSpace(string(pid)))
	}
	if got := finish(ctx, t, cmd, nil); got.code != 0 {
		t.Fatalf("%s to %s: %+v", signal, name, got)
	}
}

func TestAFullDiskIsSaidPlainlyAndRolledBack(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	h := testbed.Standalone(t)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", h.Home).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		aegis(t, h, nil, "down")
		exec.Command("umount", h.Home).Run()
	})
	if got := aegis(t, h, nil, "up"); got.code != 0 {
		t.Fatalf("aegis up: %+v", got)
	}
	got := aegis(t, h, nil, "run", "--", "true")
	if got.code != 125 || !strings.Contains(got.stderr, "space") && !strings.Contains(got.stderr, "full") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit %d, stderr %q", got.code, got.stderr)
	}
	if status := aegis(t, h, nil, "status", "-o", "json"); !strings.Contains(status.stdout, `"list": []`) {
		t.Errorf("a record is left: %s", status.stdout)
	}
}
