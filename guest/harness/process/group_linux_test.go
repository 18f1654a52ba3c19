package process

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// grouped makes the guest one whose kernel has control groups.
func (g *guest) grouped() *guest {
	g.Helper()
	dir := g.TempDir()
	if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
		g.Skipf("SKIPPED: mounting cgroup2: %v", err)
	}
	g.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	groups, err := os.MkdirTemp(dir, "aegis-test-")
	if err == nil {
		_, err = os.Stat(filepath.Join(groups, "cgroup.kill"))
	}
	g.Cleanup(func() { os.Remove(groups) })
	if err != nil {
		g.Skipf("SKIPPED: a kernel older than 5.14: %v", err)
	}
	g.WithGroups(groups)
	// As PID 1 the guest's harness gets orphans, of which the reaper tells.
	unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	g.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	return g
}

// escaped starts a program that starts another one in a session of its own, and
// returns when that runs.
func (g *guest) escaped(s Spec, script string) (r *run, out net.Conn) {
	g.Helper()
	s.Argv = []string{"sh", "-c", "setsid sh -c 'echo ready; exec sleep 1000' & " + script}
	r = g.start(s)
	kind := proto.Stdout
	if s.Terminal != nil {
		kind = proto.Terminal
	}
	out = r.dial(kind)
	r.status = r.dial(proto.Status)
	io.ReadFull(out, make([]byte, len("ready")))
	return r, out
}

func TestWhatHasLeftTheSessionEndsWithItsProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes the 5 s of the contract")
	}
	g := newGuest(t).grouped()
	cut, _ := g.escaped(clientOf(g.spec()), "wait")
	late := g.spec()
	late.Timeout = 200 * time.Millisecond
	g.escaped(late, "wait")
	cut.status.Close()
	<-g.reaper.None()
	g.groups.mu.Lock()
	defer g.groups.mu.Unlock()
	g.groups.sweep()
	if len(g.groups.left) > 0 {
		t.Errorf("groups are left: %q", g.groups.left)
	}
}

func TestWhatAProcessLeavesBehindOnPurposeGoesOn(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes the 5 s of the contract")
	}
	g := newGuest(t).grouped()
	ended, _ := g.escaped(clientOf(g.spec()), "read x; exit 3")
	io.WriteString(ended.dial(proto.Stdin), "\n")
	if got := ended.ended(); got.Code != 3 {
		t.Errorf("status %+v", got)
	}
	ended.status.Close()
	s := clientOf(g.spec())
	s.Terminal = &Terminal{}
	hungUp, screen := g.escaped(s, "wait")
	screen.Close()
	hungUp.status.Close()
	if got, err := g.Wait(t.Context(), hungUp.id); err != nil || got.Signal != int(syscall.SIGHUP) {
		t.Errorf("hung up: %+v, %v", got, err)
	}
	later := g.spec("sleep", "1000") // ends when the others would have
	later.Timeout = killGrace + 500*time.Millisecond
	g.Wait(t.Context(), g.start(later).id)
	left := 0
	for _, name := range []string{"1", "2"} {
		b, err := os.ReadFile(filepath.Join(g.groups.dir, name, "cgroup.procs"))
		for pid := range strings.Lines(string(b)) {
			n, _ := strconv.Atoi(strings.TrimSpace(pid))
			syscall.Kill(n, syscall.SIGKILL)
			left++
		}
		if err != nil {
			t.Error(err)
		}
	}
	if left != 2 {
		t.Errorf("%d of 2 are left", left)
	}
	<-g.reaper.None()
	g.groups.make().end()
	if len(g.groups.left) > 0 {
		t.Errorf("groups are left: %q", g.groups.left)
	}
}
