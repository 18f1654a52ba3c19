// Package testbed gives the whole-system tests hosts to run on: this one,
// with a standalone daemon in a home of its own, and a Debian tree booted by
// systemd-nspawn with our programs and units installed as a package would. It
// only starts hosts and commands on them; what must happen there is the
// tests' business.
package testbed

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Host is a place with the aegis programs on it.
type Host struct {
	// Name is "standalone" or "system".
	Name string
	// wrap turns a command into one that runs on the host.
	wrap func(argv []string) []string
	env  []string
	// NetNS is a file that stands for its network namespace; empty for ours.
	NetNS string
	// Root is the host's file system as seen from here, Home the directory
	// with its state, Socket that of aegisd's REST API.
	Root, Home, Socket string
	// cut ends a booted tree.
	cut func()
}

// Command makes a command on the host; argv[0] may be "aegis".
func (h *Host) Command(ctx context.Context, argv ...string) *exec.Cmd {
	argv = h.wrap(argv)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), h.env...)
	return cmd
}

// Repository is the root of the repository that the tests run in.
func Repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("the test does not run in the repository")
	return ""
}

// Built skips the test unless `make build` has made programs, guest and base
// image.
func Built(t testing.TB) string {
	t.Helper()
	root := Repository(t)
	for _, f := range []string{"bin/aegisd", "share/aegisvm/guest/distro/initramfs.cpio", "share/aegisvm/base/index.json"} {
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			t.Skipf("%s is missing: run `make build` first", f)
		}
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is missing: run `make deps` first")
	}
	return root
}

// Standalone is this machine, with an AEGIS_HOME of the test's own. The
// daemon is stopped, and its machines with it, when the test ends.
func Standalone(t testing.TB) *Host { return standalone(t, "") }

// Apart is Standalone in the network namespace that a file stands for.
func Apart(t testing.TB, netns string) *Host { return standalone(t, netns) }

// WithoutRights is Apart where nobody may change the network.
func WithoutRights(t testing.TB, netns string) *Host {
	const rights = "-net_admin,-net_raw"
	return standalone(t, netns, "setpriv", "--bounding-set="+rights, "--inh-caps="+rights, "--")
}

// standalone runs everything through a command, in a network namespace.
func standalone(t testing.TB, netns string, through ...string) *Host {
	t.Helper()
	root := Built(t)
	home := t.TempDir()
	h := &Host{Name: "standalone", NetNS: netns, Root: "/", Home: home, Socket: filepath.Join(home, "aegisd.sock")}
	// Its front is at a port of its own: others may test here, too.
	h.env = []string{"AEGIS_HOME=" + home, "AEGIS_ADDRESS=unix:" + h.Socket, "AEGIS_FRONT=127.0.0.1:0"}
	h.wrap = func(argv []string) []string {
		if argv[0] == "aegis" {
			argv = append([]string{filepath.Join(root, "bin/aegis")}, argv[1:]...)
		}
		argv = slices.Concat(through, argv)
		if netns != "" {
			argv = append([]string{"nsenter", "--net=" + netns, "--"}, argv...)
		}
		return argv
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if out, err := h.Command(ctx, "aegis", "down").CombinedOutput(); err != nil {
			t.Errorf("aegis down: %v\n%s", err, out)
		}
	})
	return h
}

// System boots a Debian tree with systemd and D-Bus, into which the programs
// and units were installed by `make install`. It needs root.
func System(t testing.TB) *Host {
	t.Helper()
	root := Built(t)
	if os.Geteuid() != 0 {
		t.Skip("booting a tree with systemd-nspawn needs root")
	}
	if _, err := exec.LookPath("systemd-nspawn"); err != nil {
		t.Skip("systemd-nspawn is missing: run `make deps-test` first")
	}
	tree := overlay(t, strings.TrimSpace(run(t, root, nil, filepath.Join(root, "tests/testbed/tree"))))
	run(t, root, []string{"DESTDIR=" + tree}, "packaging/install-tree")
	h := &Host{Name: "system", Root: tree, Home: filepath.Join(tree, "var/lib/aegis")}
	h.boot(t)
	return h
}

// boot boots the host's tree, again if need be.
func (h *Host) boot(t testing.TB) {
	t.Helper()
	leader, cut := boot(t, h.Root)
	h.cut = cut
	h.NetNS = fmt.Sprintf("/proc/%d/ns/net", leader)
	h.Socket = fmt.Sprintf("/proc/%d/root/run/aegis/aegisd.sock", leader)
	h.wrap = func(argv []string) []string {
		// nsenter stays outside as the parent: who kills that means the program.
		enter := []string{"nsenter", "--all", "--target", strconv.Itoa(leader), "--", "setpriv", "--pdeathsig", "KILL", "--"}
		return append(enter, argv...)
	}
}

// PowerCut ends all of a booted tree at once and boots it again. What it had
// not written to its disk is lost, as a power cut would have it.
func (h *Host) PowerCut(t testing.TB) {
	t.Helper()
	h.cut()
	h.boot(t)
}

// overlay puts a writable layer of the test's own on a tree.
func overlay(t testing.TB, tree string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aegis-testbed-")
	if err != nil {
		t.Fatal(err)
	}
	upper, work, merged := filepath.Join(dir, "upper"), filepath.Join(dir, "work"), filepath.Join(dir, "merged")
	for _, d := range []string{upper, work, merged} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, nil, "mount", "-t", "overlay", "overlay", "-o",
		fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", tree, upper, work), merged)
	t.Cleanup(func() {
		run(t, dir, nil, "umount", merged)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return merged
}

// boot starts the tree's systemd and returns its process once it has booted,
// and what ends all of it; the end of the test does so, too.
func boot(t testing.TB, tree string) (leader int, end func()) {
	t.Helper()
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	log := filepath.Join(t.TempDir(), "console")
	console, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close()
	cmd := exec.Command("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
		"--notify-ready=yes", "--console=pipe", "-D", tree, "--boot", "systemd.log_target=journal", "quiet")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify.LocalAddr().String())
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	leader, err = awaitReady(notify, time.Minute)
	end = sync.OnceFunc(func() {
		// The end of its PID 1 ends all of the tree; nspawn follows.
		if leader == 0 || syscall.Kill(leader, syscall.SIGKILL) != nil {
			cmd.Process.Kill()
		}
		cmd.Wait()
	})
	t.Cleanup(end)
	if err != nil {
		out, _ := os.ReadFile(log)
		t.Fatalf("booting the tree: %v\n%s", err, out)
	}
	return leader, end
}

// awaitReady reads nspawn's notifications until the guest's systemd is up.
func awaitReady(notify *net.UnixConn, limit time.Duration) (leader int, err error) {
	if err := notify.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return 0, err
		}
		ready := false
		for _, line := range strings.Split(string(buf[:n]), "\n") {
			if pid, ok := strings.CutPrefix(line, "X_NSPAWN_LEADER_PID="); ok {
				leader, _ = strconv.Atoi(pid)
			}
			ready = ready || line == "READY=1"
		}
		if ready && leader != 0 {
			return leader, nil
		}
	}
}

// run runs a command of the testbed itself and returns its stdout.
func run(t testing.TB, dir string, env []string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if e, ok := err.(*exec.ExitError); ok {
			stderr = string(e.Stderr)
		}
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr)
	}
	return string(out)
}
