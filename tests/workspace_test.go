package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// withWorkspace runs a test standalone and under systemd, with a folder that
// has the scripts.
func withWorkspace(t *testing.T, test func(t *testing.T, h *testbed.Host, folder testbed.Folder)) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		folder := h.Folder(t)
		for _, script := range []string{"workspace.py", "names.py", "memory.py"} {
			b, err := os.ReadFile(filepath.Join("testdata", script))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder.Here, script), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		test(t, h, folder)
	})
}

// killServers kills the processes that serve workspaces of a host, and tells
// how many there were.
func killServers(t *testing.T, h *testbed.Host) (killed int) {
	t.Helper()
	for _, pid := range servers(t, h) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// servers are the processes that serve workspaces of a host: its state is on
// their command lines, and under systemd they have its root.
func servers(t *testing.T, h *testbed.Host) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		b, _ := os.ReadFile(line)
		if argv := strings.Split(string(b), "\x00"); filepath.Base(argv[0]) == "aegis-fsd" && h.Has(filepath.Dir(line), string(b)) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line)))
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestAWorkspaceIsAFileSystem(t *testing.T) {
	withWorkspace(t, aFileSystem)
}

func aFileSystem(t *testing.T, h *testbed.Host, folder testbed.Folder) {
	before := inventory(t, h)
	// The same script on the machine's own disk, where setuid is harmless,
	// shows that what it expects is what Linux does.
	got := aegis(t, h, nil, "run", "--workspace", folder.There, "--", "sh", "-c",
		"mkdir /root/t /workspace/t && python3 /workspace/workspace.py /root/t harmless && python3 /workspace/workspace.py /workspace/t")
	if got.code != 0 || got.stdout != "12 cases passed\n13 cases passed\n" {
		t.Errorf("exit %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
	if b, err := os.ReadFile(filepath.Join(folder.Here, "t/rename/g")); err != nil || string(b) != "after" {
		t.Errorf("on the host: %q, %v", b, err)
	}
	if pids := servers(t, h); len(pids) != 0 {
		t.Errorf("servers are left: %v", pids)
	}
	if after := inventory(t, h); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// TestAWorkspaceConforms does what POSIX says and what programs mix, on the
// machine's own disk and in the workspace.
func TestAWorkspaceConforms(t *testing.T) {
	withWorkspace(t, conforms)
}

func conforms(t *testing.T, h *testbed.Host, folder testbed.Folder) {
	build(t, "fstest", folder.Here)
	fsx := "f=/workspace/fstest; $f fsx /root/t 1 300 && $f fsx /workspace/t 1 300 && $f fsx /workspace/u 2 300"
	got := aegis(t, h, nil, "run", "--workspace", folder.There, "--", "sh", "-c", fsx)
	if got.code != 0 || got.stdout != strings.Repeat("300 accesses, all right\n", 3) {
		t.Errorf("exit %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
	if os.Geteuid() != 0 || h.Name == "system" {
		return // to a server without root's powers all users of a guest are one
	}
	got = aegis(t, h, nil, "run", "--workspace", folder.There, "--", "sh", "-c",
		"f=/workspace/fstest; $f posix /root/t && $f posix /workspace/p")
	posix, rest, _ := strings.Cut(got.stdout, "\n")
	if got.code != 0 || !strings.HasSuffix(posix, " cases passed") || rest != posix+"\n" {
		t.Errorf("exit %d, stderr %q\n%s", got.code, got.stderr, got.stdout)
	}
}

// build builds the program of a name, which is in a folder of that name, into a
// folder.
func build(t *testing.T, name, folder string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(folder, name), "./"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
}

// TestRenamesOfAServerThatIsKilled kills the server twenty times on the way, in
// 10,000 renames of both compositions.
func TestRenamesOfAServerThatIsKilled(t *testing.T) {
	withWorkspace(t, renamesUnderKills)
}

func renamesUnderKills(t *testing.T, h *testbed.Host, folder testbed.Folder) {
	build(t, "fstest", folder.Here)
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	cmd := h.Command(ctx, "aegis", "run", "--workspace", folder.There, "--", "/workspace/fstest", "renames", "/workspace/r", "5000")
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed, last := 0, ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		killed += killServers(t, h)
	}
	if err := cmd.Wait(); err != nil || last != "all there" || killed < 10 {
		t.Errorf("%v; said %q, %d servers killed; stderr %s", err, last, killed, stderr)
	}
	if a, b := entries(t, folder.Here+"/r/a"), entries(t, folder.Here+"/r/b"); a+b != 100 {
		t.Errorf("on the host there are %d and %d names, want 100", a, b)
	}
}

func entries(t *testing.T, folder string) int {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// TestAServerThatIsKilledLosesAndInventsNothing kills the server while a guest
// changes names, none of which may fail, and aegisd itself once.
func TestAServerThatIsKilledLosesAndInventsNothing(t *testing.T) {
	withWorkspace(t, killedServers)
}

func killedServers(t *testing.T, h *testbed.Host, folder testbed.Folder) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := h.Command(ctx, "aegis", "run", "--workspace", folder.There, "--", "python3", "/workspace/names.py", "300")
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed, last, again := 0, "", false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = lines.Text()
		if !strings.HasPrefix(last, "round") {
			continue
		}
		if killed > 1 && !again {
			again = true
			killDaemon(t, h, "aegisd")
			if got := aegis(t, h, nil, "up"); got.code != 0 {
				t.Fatalf("aegis up: %+v", got)
			}
		}
		killed += killServers(t, h)
	}
	if err := cmd.Wait(); err != nil || last != "all there" || killed < 3 || !again {
		t.Errorf("%v; said %q, %d servers killed; stderr %s", err, last, killed, stderr)
	}
}

// TestWritingBackNeedsNoMemory dirties more than a small machine holds: what
// it writes back goes through the harness, which must not wait for it.
func TestWritingBackNeedsNoMemory(t *testing.T) {
	withWorkspace(t, func(t *testing.T, h *testbed.Host, folder testbed.Folder) {
		got := aegis(t, h, nil, "run", "--memory", "128", "--workspace", folder.There, "--", "python3", "/workspace/memory.py")
		if got.code != 0 || got.stdout != "all there\n" {
			t.Errorf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
		}
	})
}

// TestWritingBackWithLittleMemory writes 200 MiB where locked memory leaves
// 16 MiB to the kernel and to all else.
func TestWritingBackWithLittleMemory(t *testing.T) {
	withWorkspace(t, func(t *testing.T, h *testbed.Host, folder testbed.Folder) {
		build(t, "fstest", folder.Here)
		got := aegis(t, h, nil, "run", "--memory", "192", "--workspace", folder.There, "--",
			"/workspace/fstest", "hog", "/workspace/h", "200", "16")
		if got.code != 0 || !strings.HasSuffix(got.stdout, "all there\n") {
			t.Errorf("exit %d, %q, %q", got.code, got.stdout, got.stderr)
		}
		t.Log(got.stdout)
	})
}

func TestWorkspacesWithNames(t *testing.T) {
	withWorkspace(t, withNames)
}

func withNames(t *testing.T, h *testbed.Host, folder testbed.Folder) {
	run := func(args ...string) result { t.Helper(); return aegis(t, h, nil, args...) }
	for i, want := range []string{"", "1\n"} {
		got := run("run", "--workspace", "notes", "--", "sh", "-c", "cat /workspace/f 2>/dev/null; echo "+fmt.Sprint(i+1)+" > /workspace/f")
		if got.stdout != want {
			t.Errorf("run %d: %+v", i, got)
		}
	}
	if got := run("workspace", "list"); !strings.Contains(got.stdout, "notes  -") {
		t.Errorf("list: %+v", got)
	}
	if got := run("instance", "start", "--name", "own", "--workspace", "auto", "--", "sleep", "1000"); got.code != 0 {
		t.Fatalf("start: %+v", got)
	}
	if got := run("workspace", "prune", "--dry-run"); got.stdout != "Workspace notes would be deleted\n" {
		t.Errorf("prune: %+v", got)
	}
	if got := run("workspace", "rm", "notes"); got.code != 0 {
		t.Errorf("rm: %+v", got)
	}
	if got := run("instance", "delete", "own"); got.code != 0 {
		t.Errorf("delete: %+v", got)
	}
	if got := run("workspace", "list"); got.stdout != "No workspaces\n" {
		t.Errorf("list at the end: %+v", got)
	}
	missing := filepath.Join(folder.There, "missing")
	if got := run("run", "--workspace", missing, "--", "true"); got.code != 125 || !strings.Contains(got.stderr, "--create-workspace") {
		t.Errorf("a missing folder: %+v", got)
	}
	if got := run("run", "--workspace", missing, "--create-workspace", "--", "touch", "/workspace/x"); got.code != 0 {
		t.Errorf("a folder that is made: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(folder.Here, "missing/x")); err != nil {
		t.Error(err)
	}
	state := h.Home
	if h.Name == "system" {
		state = "/var/lib/aegis"
	}
	if got := run("run", "--workspace", state, "--", "true"); got.code != 125 || !strings.Contains(got.stderr, "state") {
		t.Errorf("aegisd's own folder: %+v", got)
	}
}

// TestFilesAreReadAndWrittenBesideTheGuest has the files of a workspace change
// on both sides.
func TestFilesAreReadAndWrittenBesideTheGuest(t *testing.T) {
	withWorkspace(t, func(t *testing.T, h *testbed.Host, folder testbed.Folder) {
		if got := aegis(t, h, nil, "instance", "start", "--name", "web", "--workspace", folder.There, "--", "sleep", "1000"); got.code != 0 {
			t.Fatalf("start: %+v", got)
		}
		if got := aegis(t, h, nil, "instance", "wait", "web", "--until", "running"); got.code != 0 {
			t.Fatalf("wait: %+v", got)
		}
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		put(t, client, "web", "a/b.txt", "from the host")
		if got := aegis(t, h, nil, "exec", "web", "--", "sh", "-c", "cat /workspace/a/b.txt; echo from the guest >/workspace/a/c.txt; ln -s /etc/shadow /workspace/out"); got.stdout != "from the host" {
			t.Errorf("in the guest: %+v", got)
		}
		if text, err := get(t, client, "web", "a/c.txt"); text != "from the guest\n" {
			t.Errorf("on the host: %q, %v", text, err)
		}
		want := []api.FileEntry{{Name: "b.txt", Size: 13}, {Name: "c.txt", Size: 15}}
		if all, err := client.Tree(t.Context(), api.Caller{}, "web", "a"); err != nil || !cmp.Equal(want, all) {
			t.Errorf("%v, %s", err, cmp.Diff(want, all))
		}
		if _, err := get(t, client, "web", "out"); api.CodeOf(err) != api.Denied {
			t.Errorf("a link that leads out: %v", err)
		}
		if got := aegis(t, h, nil, "instance", "delete", "web"); got.code != 0 {
			t.Errorf("delete: %+v", got)
		}
	})
}

func put(t *testing.T, client *restapi.Client, ref, path, content string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := client.WriteFile(t.Context(), api.Caller{}, ref, path, f); err != nil {
		t.Errorf("writing %s: %v", path, err)
	}
}

func get(t *testing.T, client *restapi.Client, ref, path string) (string, error) {
	t.Helper()
	f, err := client.ReadFile(t.Context(), api.Caller{}, ref, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	return string(b), err
}
