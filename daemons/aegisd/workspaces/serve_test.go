package workspaces

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// TestMain makes this test program the server of a workspace, too: what it
// does is the name of the folder.
func TestMain(m *testing.M) {
	if len(os.Args) > 4 && os.Args[1] == "-root" {
		os.Exit(beServer(filepath.Base(os.Args[2]), os.Args[4]))
	}
	os.Exit(m.Run())
}

func beServer(what, state string) int {
	if what == "cannot" {
		fmt.Fprintln(os.Stderr, "the folder is cursed")
		return exitCannot
	}
	starts, _ := os.ReadFile(filepath.Join(state, "starts"))
	os.WriteFile(filepath.Join(state, "starts"), append(starts, 'x'), 0o600)
	c, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		return 1
	}
	for {
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
		if err != nil || n == 0 {
			return 0
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		fds, _ := unix.ParseUnixRights(&messages[0])
		fmt.Fprintf(os.NewFile(uintptr(fds[0]), "stream"), "start %d\n", len(starts)+1)
		if what == "dies" && len(starts) < 2 {
			return 1
		}
		c.Write([]byte{1})
	}
}

func newKeeper(t *testing.T) *Keeper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{State: t.TempDir(), Server: self, Log: slog.New(slog.DiscardHandler)})
}

// dialled are the guest's ends of the streams that were dialled.
func dialled(t *testing.T) (func(context.Context) (*os.File, error), <-chan *os.File) {
	ends := make(chan *os.File, 100)
	return func(context.Context) (*os.File, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return nil, err
		}
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
		end := os.NewFile(uintptr(fds[0]), "guest")
		t.Cleanup(func() { end.Close() })
		ends <- end
		return os.NewFile(uintptr(fds[1]), "host"), nil
	}, ends
}

func line(t *testing.T, f *os.File) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := f.Read(b)
	if err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestServeStartsAServerAgain(t *testing.T) {
	k := newKeeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dial, ends := dialled(t)
	served := make(chan error, 1)
	go func() { served <- k.Serve(ctx, "m-1", "/nowhere/dies", dial) }()
	for _, want := range []string{"start 1\n", "start 2\n", "start 3\n", "start 3\n", "start 3\n"} {
		if got := line(t, <-ends); got != want {
			t.Errorf("a stream said %q, expected %q", got, want)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("at the end: %v", err)
	}
	k.Forget("m-1")
	if left, _ := os.ReadDir(k.mount("")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestServeGivesUpWhatCannotBe(t *testing.T) {
	k := newKeeper(t)
	dial, _ := dialled(t)
	err := k.Serve(t.Context(), "m-1", "/nowhere/cannot", dial)
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "cursed") {
		t.Errorf("a server that cannot: %v", err)
	}
	k.Server = "/nonexistent/aegis-fsd"
	err = k.Serve(t.Context(), "m-1", "/nowhere/holds", dial)
	if api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "aegis-fsd") {
		t.Errorf("a server that is not there: %v", err)
	}
}

func TestServeWaitsForAGuestThatCannotBeDialled(t *testing.T) {
	k := newKeeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	dial, ends := dialled(t)
	failures := 0
	served := make(chan error, 1)
	go func() {
		served <- k.Serve(ctx, "m-1", "/nowhere/holds", func(ctx context.Context) (*os.File, error) {
			if failures++; failures < 4 {
				return nil, errors.New("not yet")
			}
			return dial(ctx)
		})
	}()
	if got := line(t, <-ends); got != "start 1\n" {
		t.Errorf("the stream said %q", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("at the end: %v", err)
	}
}

func TestAdmitAndSweep(t *testing.T) {
	k := newKeeper(t)
	me := uint32(os.Geteuid())
	inside, around := filepath.Join(k.State, "workspaces"), filepath.Dir(k.State)
	apart := t.TempDir()
	link := filepath.Join(apart, "link")
	if err := os.Symlink(k.State, link); err != nil {
		t.Fatal(err)
	}
	if err := k.Admit(me, "notes", "inst-1"); err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[string]api.Code{
		"notes": "", Auto: "", apart: "", apart + "x": api.NotFound,
		k.State: api.Denied, inside: api.Denied, around: api.Denied, "/": api.Denied, link: api.Denied,
	} {
		if err := k.Admit(me, ref, "inst-1"); api.CodeOf(err) != want && !(err == nil && want == "") {
			t.Errorf("%s: %v, expected %q", ref, err, want)
		}
	}
	if err := k.Admit(me+1, "notes", "inst-1"); api.CodeOf(err) != api.Denied {
		t.Errorf("another user: %v", err)
	}
	info, err := os.Stat(k.Folder("notes", ""))
	if err != nil || info.Mode().Perm() != 0o700 || info.Sys().(*syscall.Stat_t).Uid != me {
		t.Errorf("the folder: %v, %v", info, err)
	}
	for _, dir := range []string{k.mount("m-gone"), k.mount("m-there"), k.named(".removed.x")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	k.Sweep(t.Context(), func(machine string) bool { return machine == "m-there" })
	var left []string
	filepath.WalkDir(k.State, func(path string, _ os.DirEntry, _ error) error {
		rel, _ := filepath.Rel(k.State, path)
		left = append(left, rel)
		return nil
	})
	if got := strings.Join(left, " "); got != ". mounts mounts/m-there workspaces workspaces/inst-1 workspaces/notes" {
		t.Errorf("left: %s", got)
	}
}
