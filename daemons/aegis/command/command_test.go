package command

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
)

// fakeAegis answers what status, down and run ask first.
type fakeAegis struct {
	api.Aegis
	instances []api.Instance

	mu      sync.Mutex // guards the fields below
	spec    *api.InstanceSpec
	stopped []string
	secrets map[string]string
	rotated int
	log     []api.LogEntry
	query   *api.LogQuery

	workspaces []api.Workspace
}

func (f *fakeAegis) Status(context.Context) (api.Status, error) {
	return api.Status{
		Status: "running", Version: "1.2.3", Composition: "standalone", Backend: "qemu", Accel: "tcg", Kernel: "lean",
		Warnings: []string{"software emulation"}, Instances: map[api.Phase]int{api.PhaseRunning: 2, api.PhaseFailed: 1},
	}, nil
}

func (f *fakeAegis) List(context.Context) ([]api.Instance, error) { return f.instances, nil }

func (f *fakeAegis) Create(_ context.Context, _ api.Caller, spec api.InstanceSpec) (api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spec = &spec
	return api.Instance{}, api.Errorf(api.InvalidArgument, "refused for the test")
}

func (f *fakeAegis) Stop(_ context.Context, ref string) (api.Instance, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = append(f.stopped, ref)
	return api.Instance{}, api.Errorf(api.Internal, "does not want to")
}

// home gives the test an AEGIS_HOME of its own, with a path that is short
// enough for a socket.
func home(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aegis-command-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("AEGIS_HOME", dir)
	t.Setenv("AEGIS_ADDRESS", "")
	return dir
}

// serve answers at the socket of a home.
func serve(t *testing.T, f api.Aegis) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(home(t), "aegisd.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- restapi.NewServer(f, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// aegis runs the CLI and returns what it printed.
func aegis(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	files := make([]*os.File, 3)
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "stdio")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = Main(args, files[0], files[1], files[2])
	text := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, text(files[1]), text(files[2])
}

func TestBadCommandLinesAreNamed(t *testing.T) {
	home(t)
	for _, c := range []struct {
		args   []string
		code   int
		stderr string // its first line
	}{
		{[]string{"nosuch"}, 2, `unknown command "nosuch": expected one of attach, completion, cp, doctor, down, events, exec, image, instance, logs, network, run, secret, status, up, version, why, workspace`},
		{[]string{"--nosuch"}, 2, "unknown flag: --nosuch"},
		{[]string{"run", "--nosuch", "--", "true"}, 2, "unknown flag: --nosuch"},
		{[]string{"run", "-t", "true"}, 2, "-t: standard input is no terminal: leave -t out, or run it in a terminal"},
		{[]string{"exec", "-it", "web", "--", "sh"}, 2, "-t: standard input is no terminal: leave -t out, or run it in a terminal"},
		{[]string{"attach"}, 2, "no instance: expected its name or id"},
		{[]string{"attach", "web", "x"}, 2, `unexpected argument "x": aegis attach takes an instance only`},
		{[]string{"exec"}, 2, "no instance: expected its name or id, and a program, such as: aegis exec web -- ls"},
		{[]string{"exec", "web"}, 2, "no command: expected a program after web, such as: aegis exec web -- ls"},
		{[]string{"exec", "web", "--"}, 2, "no command: expected a program after web, such as: aegis exec web -- ls"},
		{[]string{"exec", "web", "-i", "cat"}, 2, `"-i" after the instance: flags go before web, and a program after "--"`},
		{[]string{"exec", "--attach", "exec-1", "web", "ls"}, 2, `unexpected argument "ls": --attach and --list take an instance only`},
		{[]string{"exec", "--list", "--detach", "web"}, 2, "--detach with --list: give one"},
		{[]string{"exec", "--list", "--attach", "x", "web"}, 2, "--attach with --list: give one"},
		{[]string{"exec", "--attach", "x", "--env", "A=B", "web"}, 2, "--env with --attach: it is for a new program"},
		{[]string{"exec", "--detach", "-i", "web", "cat"}, 2, "-i with --detach: a detached program gets its input from who attaches: use -t"},
		{[]string{"exec", "-o", "json", "web", "ls"}, 2, "-o without --list: a program's output is its own"},
		{[]string{"exec", "--timeout", "0", "web", "ls"}, 125, "timeout of 0s: expected a millisecond or more, or no --timeout for none"},
		{[]string{"exec", "--attach", "x", "--secret", "A", "web"}, 2, "--secret with --attach: it is for a new program"},
		{[]string{"exec", "web", "printf", "\xff"}, 125, `argument 1, "\xff": expected UTF-8: pass other bytes through stdin (-i) or a file`},
		{[]string{"cp", "web:/a"}, 2, "1 arguments: expected SRC and DST, such as: aegis cp file web:/tmp"},
		{[]string{"cp", "web:/a", "db:/a"}, 2, "both SRC and DST are in machines: copy to a folder here first, or through a pipe with -"},
		{[]string{"cp", "a", "./web:/a"}, 2, "neither SRC nor DST is in a machine: write one as NAME:PATH"},
		{[]string{"cp", "-", "-"}, 2, "neither SRC nor DST is in a machine: write one as NAME:PATH"},
		{[]string{"cp", "web:", "a"}, 2, `"web:": expected a path after the colon`},
		{[]string{"cp", "", "web:/a"}, 2, `"": expected a path, or - for a tar archive`},
		{[]string{"cp", "web:/\xff", "a"}, 2, `"web:/\xff": expected UTF-8 in the path of a machine: copy the folder that it is in`},
		{[]string{"cp", "-L", "-", "web:/a"}, 2, "-L with a tar archive as SRC: it has its links already"},
		{[]string{"cp", "-a", "web:/a", "-"}, 2, "-a with a tar archive as DST: it has its owners anyway"},
		{[]string{"cp", "-r", "a", "web:/a"}, 2, "unknown shorthand flag: 'r' in -r"},
		{[]string{"cp", "/no/such/file", "web:/a"}, 1, `"/no/such/file": no such file or directory`},
		{[]string{"run"}, 2, "no command: expected a program and its arguments, such as: aegis run -- echo hello"},
		{[]string{"run", "--memory", "lots", "true"}, 2, `invalid argument "lots" for "--memory" flag: expected MiB as a number, or a size such as 512M or 1G`},
		{[]string{"run", "--env", "=A", "true"}, 2, `invalid argument "=A" for "--env" flag: expected NAME=VALUE; write NAME= for an empty value`},
		{[]string{"run", "--env", "A-B", "true"}, 2, `invalid argument "A-B" for "--env" flag: expected NAME=VALUE, NAME=secret.SECRET, the name of a secret, or '*' for all secrets`},
		{[]string{"run", "--env", "A=secret.b.c", "true"}, 2, `invalid argument "A=secret.b.c" for "--env" flag: expected the name of a secret after "secret."; to pass that text itself, set it as a secret`},
		{[]string{"run", "--secret", "A=B", "true"}, 2, `invalid argument "A=B" for "--secret" flag: expected the name of a secret, or '*' for all secrets`},
		{[]string{"secret", "set"}, 2, "no name: expected the name of a secret, such as: aegis secret set API_KEY"},
		{[]string{"secret", "set", "A", "-", "x"}, 2, `unexpected argument "x": aegis secret set takes a name and at most one value`},
		{[]string{"secret", "set", "A", "-", "--from-file", "f"}, 2, "both a value and --from-file: give one"},
		{[]string{"secret", "delete"}, 2, "no name: expected names of secrets"},
		{[]string{"secret", "show"}, 2, `unknown command "show": expected one of delete, list, rotate-key, set`},
		{[]string{"secret", "set", "A", "--from-file", "/no/such/file"}, 1, "value: open /no/such/file: no such file or directory"},
		{[]string{"secret", "set", "A", "-"}, 1, "secret A: its value is empty: give one, or delete the secret"},
		{[]string{"run", "--memory", "0", "true"}, 125, "memory of 0 MiB: a guest needs at least 128"},
		{[]string{"run", "--disk", "0", "true"}, 125, "disk of 0 MiB: at least 256 are needed"},
		{[]string{"run", "--memory", "-1G", "true"}, 125, "memory of -1024 MiB: a guest needs at least 128"},
		{[]string{"run", "--memory=-18014398509481983G", "true"}, 125, "memory of -2199023254528 MiB: a guest needs at least 128"},
		{[]string{"run", "--", "printf", "\xff"}, 125, `argument 1, "\xff": expected UTF-8: pass other bytes through stdin (-i) or a file`},
		{[]string{"run", "--env", "A=\xff", "true"}, 125, `environment variable "A": expected UTF-8: pass other bytes through stdin (-i) or a file`},
		{[]string{"run", "--cpus", "two", "true"}, 2, `invalid argument "two" for "--cpus" flag: expected a whole number`},
		{[]string{"run", "--cpus", "0", "true"}, 125, "0 cpus: a guest needs at least 1"},
		{[]string{"run", "--timeout", "0", "true"}, 125, "timeout of 0s: expected a millisecond or more, or no --timeout for none"},
		{[]string{"run", "--timeout", "-2s", "true"}, 125, "timeout of -2s: expected a millisecond or more, or no --timeout for none"},
		{[]string{"status", "-o", "yaml"}, 2, `invalid argument "yaml" for "-o, --output" flag: expected text or json`},
		{[]string{"status", "web"}, 2, `unexpected argument "web": aegis status takes none`},
		{[]string{"up", "now"}, 2, `unexpected argument "now": aegis up takes none`},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			code, stdout, stderr := aegis(t, c.args...)
			first, rest, _ := strings.Cut(stderr, "\n")
			if code != c.code || first != "aegis: "+c.stderr || stdout != "" {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q", code, stdout, stderr, c.code, c.stderr)
			}
			if hint := strings.HasPrefix(rest, "Run 'aegis "); hint != (code == 2) || !hint && rest != "" {
				t.Errorf("after the first line: %q", rest)
			}
		})
	}
}

func TestBadAddressIsAUsageError(t *testing.T) {
	home(t)
	for _, address := range []string{"tcp:1.2.3.4", "unix:relative", "dbus:", "/run/x"} {
		t.Setenv("AEGIS_ADDRESS", address)
		code, _, stderr := aegis(t, "run", "true")
		if code != 2 || !strings.Contains(stderr, address) || !strings.Contains(stderr, "expected dbus:system") {
			t.Errorf("%s: exit %d, %q", address, code, stderr)
		}
	}
}

func TestMissingDaemonIsNamed(t *testing.T) {
	home(t)
	for _, c := range []struct {
		args []string
		code int
		said string
	}{
		{[]string{"run", "true"}, 125, "aegisd is not running: start it with"},
		{[]string{"status"}, 1, "aegisd is not running"},
		{[]string{"down"}, 0, "aegisd is not running"},
		{[]string{"status", "-o", "json"}, 1, `"status": "stopped"`},
		{[]string{"doctor", "-o", "json"}, -1, "aegisd is not running"},
	} {
		code, stdout, stderr := aegis(t, c.args...)
		if c.code >= 0 && code != c.code || !strings.Contains(stdout+stderr, c.said) {
			t.Errorf("%v: exit %d, %q, %q; want %d and %q", c.args, code, stdout, stderr, c.code, c.said)
		}
	}
}

func TestRunTurnsFlagsIntoASpec(t *testing.T) {
	for _, c := range []struct {
		args []string
		want api.InstanceSpec
	}{
		{[]string{"echo", "-n", "--", "x"}, api.InstanceSpec{Command: []string{"echo", "-n", "--", "x"}}},
		{[]string{"--", "--strange"}, api.InstanceSpec{Command: []string{"--strange"}}},
		{
			[]string{
				"--image", "/img", "--name", "web", "-i", "--cpus", "2", "--memory", "1G", "--disk", "50G", "--env", "A=1", "--env", "B=",
				"--workdir", "/tmp", "--user", "nobody", "--timeout", "1m30s", "true",
			},
			api.InstanceSpec{
				Command: []string{"true"}, ImageRef: "/img", Handle: "web", Stdin: true, VCPUs: 2, MemoryMB: 1024, DiskMB: 51200,
				Env: map[string]string{"A": "1", "B": ""}, Workdir: "/tmp", User: "nobody", TimeoutMS: 90000,
			},
		},
	} {
		f := &fakeAegis{}
		serve(t, f)
		code, _, stderr := aegis(t, append([]string{"run"}, c.args...)...)
		if code != 125 || stderr != "aegis: refused for the test\n" {
			t.Errorf("exit %d, %q", code, stderr)
		}
		c.want.Attach, c.want.AutoRemove = true, true
		if f.spec == nil {
			t.Fatalf("%v: nothing was created", c.args)
		}
		if diff := cmp.Diff(c.want, *f.spec); diff != "" {
			t.Errorf("%v (-want +got):\n%s", c.args, diff)
		}
	}
}

// machines are the caller's own, running and at rest, and another user's.
func machines() []api.Instance {
	me := uint32(os.Getuid())
	return []api.Instance{
		{ID: "inst-1", Handle: "web", Phase: api.PhaseRunning, OwnerUID: me, Command: []string{"serve", "a\x1bb"}},
		{ID: "inst-2", Phase: api.PhaseRunning, OwnerUID: me + 1, Command: []string{"theirs"}},
		{ID: "inst-3", Phase: api.PhaseFailed, OwnerUID: me, Command: []string{"boom"}, LastError: "the guest's kernel panicked"},
		{ID: "inst-4", Phase: api.PhaseStopped, OwnerUID: me, Command: []string{"old"}},
	}
}

func TestStatusShowsWhatLivesAndWhatFailed(t *testing.T) {
	serve(t, &fakeAegis{instances: machines()})
	code, stdout, _ := aegis(t, "status")
	for _, want := range []string{
		"running, version 1.2.3, standalone", "qemu, software emulation", "WARNING: software emulation",
		"1 failed, 2 running", "inst-1", "web", `serve a\x1bb`, "theirs", "the guest's kernel panicked",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("status does not say %q:\n%s", want, stdout)
		}
	}
	if code != 0 || strings.Contains(stdout, "inst-4") || strings.Contains(stdout, "\x1b") {
		t.Errorf("exit %d:\n%s", code, stdout)
	}
}

func TestStatusAsJSONHasEverything(t *testing.T) {
	serve(t, &fakeAegis{instances: machines()})
	code, stdout, stderr := aegis(t, "status", "-o", "json")
	var got report
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil || code != 0 || stderr != "" {
		t.Fatalf("exit %d, %q, %v", code, stderr, err)
	}
	if diff := cmp.Diff(machines(), got.List); diff != "" || got.Status.Version != "1.2.3" {
		t.Errorf("version %q, instances (-want +got):\n%s", got.Status.Version, diff)
	}
}

func TestDownStopsTheCallersMachinesOnly(t *testing.T) {
	f := &fakeAegis{instances: machines()}
	serve(t, f)
	code, _, stderr := aegis(t, "down")
	if diff := cmp.Diff([]string{"inst-1"}, f.stopped); diff != "" {
		t.Errorf("stopped (-want +got):\n%s", diff)
	}
	if want := "aegis: aegisd is left running: stopping web: does not want to\n"; code != 1 || stderr != want {
		t.Errorf("exit %d, %q; want 1, %q", code, stderr, want)
	}
}

func TestUpLeavesARunningDaemonAlone(t *testing.T) {
	serve(t, &fakeAegis{})
	code, stdout, stderr := aegis(t, "up")
	if code != 0 || stdout != "aegisd is already running: version 1.2.3, standalone, qemu (software emulation)\n" || stderr != "WARNING: software emulation\n" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestVersionIsToldInBothFormats(t *testing.T) {
	code, stdout, _ := aegis(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "aegis "+version().Version+" (go") {
		t.Errorf("exit %d, %q", code, stdout)
	}
	code, stdout, _ = aegis(t, "version", "-o", "json")
	var b build
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != 0 || b != version() {
		t.Errorf("exit %d, %v, %+v", code, err, b)
	}
}
