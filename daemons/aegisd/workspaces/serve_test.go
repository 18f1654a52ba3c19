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
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// TestMain makes this test program the server of a workspace, too: what it
// does is the name of the folder that it is asked for.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "-state" {
		os.Exit(beServer(os.Args[2]))
	}
	os.Exit(m.Run())
}

func beServer(state string) int {
	c, err := net.FileConn(os.NewFile(3, "control"))
	if err != nil {
		return 1
	}
	conn := c.(*net.UnixConn)
	r, _, err := door.Take(conn)
	if err != nil {
		return 1
	}
	if r.Verb == door.Forget {
		os.RemoveAll(filepath.Join(state, r.Machine))
		door.Reply(conn, door.Answer{}, nil)
		return 0
	}
	what := filepath.Base(r.Folder)
	if what == "cannot" {
		door.Refuse(conn, api.Errorf(api.Denied, "the folder is cursed"))
		return 0
	}
	dir := filepath.Join(state, r.Machine)
	os.MkdirAll(dir, 0o700)
	starts, _ := os.ReadFile(filepath.Join(dir, "starts"))
	os.WriteFile(filepath.Join(dir, "starts"), append(starts, 'x'), 0o600)
	if what == "silent" && len(starts) < 2 {
		return 1
	}
	door.Reply(conn, door.Answer{}, nil)
	return feedOn(conn, what, len(starts)+1)
}

// feedOn tells each stream which server this is.
func feedOn(conn *net.UnixConn, what string, start int) int {
	for {
		oob := make([]byte, unix.CmsgSpace(4))
		_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 1), oob)
		if err != nil || n == 0 {
			return 0
		}
		messages, _ := unix.ParseSocketControlMessage(oob[:n])
		fds, _ := unix.ParseUnixRights(&messages[0])
		fmt.Fprintf(os.NewFile(uintptr(fds[0]), "stream"), "start %d\n", start)
		if what == "dies" && start < 3 {
			return 1
		}
		conn.Write([]byte{1})
	}
}

func newKeeper(t *testing.T) *Keeper {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	state := t.TempDir()
	return New(Config{State: state, Connect: Spawn(self, "-state", state), Log: slog.New(slog.DiscardHandler)})
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

func TestServeReplacesAServer(t *testing.T) {
	for what, lines := range map[string][]string{
		"dies":   {"start 1\n", "start 2\n", "start 3\n", "start 3\n", "start 3\n"},
		"silent": {"start 3\n", "start 3\n"},
	} {
		k := newKeeper(t)
		ctx, cancel := context.WithCancel(t.Context())
		dial, ends := dialled(t)
		served := make(chan error, 1)
		go func() { served <- k.Serve(ctx, Place{Folder: "/nowhere/" + what}, Guest{Machine: "m-1", Dial: dial}) }()
		for _, want := range lines {
			if got := line(t, <-ends); got != want {
				t.Errorf("%s: a stream said %q, expected %q", what, got, want)
			}
		}
		cancel()
		if err := <-served; err != nil {
			t.Errorf("%s: at the end: %v", what, err)
		}
		k.Forget(t.Context(), "m-1")
		if left, _ := os.ReadDir(k.State); len(left) != 0 {
			t.Errorf("%s: left: %v", what, left)
		}
	}
}

func TestServeGivesUpWhatCannotBe(t *testing.T) {
	k := newKeeper(t)
	dial, _ := dialled(t)
	serve := func(folder string) error {
		return k.Serve(t.Context(), Place{Folder: folder}, Guest{Machine: "m-1", Dial: dial})
	}
	if err := serve("/nowhere/cannot"); api.CodeOf(err) != api.Denied || !strings.Contains(err.Error(), "cursed") {
		t.Errorf("a server that cannot: %v", err)
	}
	k.Connect = Spawn("/nonexistent/aegis-fsd")
	if err := serve("/nowhere/holds"); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "aegis-fsd") {
		t.Errorf("a server that is not there: %v", err)
	}
	k.Connect = Dial(filepath.Join(t.TempDir(), "fs.sock"))
	if err := serve("/nowhere/holds"); api.CodeOf(err) != api.Unavailable || !strings.Contains(err.Error(), "aegis-fs.socket") {
		t.Errorf("a socket that is not there: %v", err)
	}
}

// TestAGuestThatWasServedIsWaitedFor has a socket that comes and goes, as when
// a package is replaced.
func TestAGuestThatWasServedIsWaitedFor(t *testing.T) {
	k := newKeeper(t)
	spawn, away := k.Connect, 3
	k.Connect = func(ctx context.Context) (Server, error) {
		if away--; away >= 0 {
			return Dial("/nonexistent/fs.sock")(ctx)
		}
		return spawn(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dial, ends := dialled(t)
	served := make(chan error, 1)
	go func() {
		served <- k.Serve(ctx, Place{Folder: "/nowhere/holds"}, Guest{Machine: "m-1", Dial: dial, Served: true})
	}()
	if got := line(t, <-ends); got != "start 1\n" {
		t.Errorf("the stream said %q", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("at the end: %v", err)
	}
}

func TestServeWaitsForAGuestThatCannotBeDialled(t *testing.T) {
	k := newKeeper(t)
	ctx, cancel := context.WithCancel(t.Context())
	dial, ends := dialled(t)
	failures := 0
	served := make(chan error, 1)
	go func() {
		served <- k.Serve(ctx, Place{Folder: "/nowhere/holds"}, Guest{Machine: "m-1", Dial: func(ctx context.Context) (*os.File, error) {
			if failures++; failures < 4 {
				return nil, errors.New("not yet")
			}
			return dial(ctx)
		}})
	}()
	if got := line(t, <-ends); got != "start 1\n" {
		t.Errorf("the stream said %q", got)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("at the end: %v", err)
	}
}
