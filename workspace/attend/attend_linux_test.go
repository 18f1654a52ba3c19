package attend_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/attend"
	"github.com/xfeldman/aegisvm/workspace/attend/attendtest"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// place is where a test's servers work.
func place(t *testing.T) attend.Config {
	t.Helper()
	dir := t.TempDir()
	return attend.Config{State: filepath.Join(dir, "mounts"), Named: filepath.Join(dir, "named"), Apart: dir}
}

func ask(t *testing.T, c attend.Config, r door.Request) error {
	t.Helper()
	_, f, err := door.Ask(attendtest.Connect(t, c), r, nil)
	if f != nil {
		f.Close()
	}
	return err
}

// TestAFolderIsWhatItIsWhenItIsOpened has names that lead elsewhere.
func TestAFolderIsWhatItIsWhenItIsOpened(t *testing.T) {
	c, folder := place(t), t.TempDir()
	me := uint32(os.Geteuid())
	for name, target := range map[string]string{"state": c.Apart, "mounts": c.State, "fine": folder, "file": "/etc/passwd", "nowhere": "/nonexistent"} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(c.State, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]api.Code{
		"": "", "fine": "", "state": api.Denied, "mounts": api.Denied, "file": api.InvalidArgument, "nowhere": api.NotFound, "missing": api.NotFound,
	} {
		err := ask(t, c, door.Request{Verb: door.Admit, Owner: me, Folder: filepath.Join(folder, name)})
		if api.CodeOf(err) != want {
			t.Errorf("%q: %v, expected %q", name, err, want)
		}
	}
	if err := ask(t, c, door.Request{Verb: door.Tree, Owner: me, Folder: "notes", Path: "."}); api.CodeOf(err) != api.NotFound {
		t.Errorf("to look makes no folder: %v", err)
	}
}

// TestTheNextServerWaits has two servers of one machine: the state is that of
// one at a time.
func TestTheNextServerWaits(t *testing.T) {
	c := place(t)
	r := door.Request{Verb: door.Serve, Owner: uint32(os.Geteuid()), Folder: t.TempDir(), Machine: "m-1"}
	first := attendtest.Connect(t, c)
	if _, _, err := door.Ask(first, r, nil); err != nil {
		t.Fatal(err)
	}
	second := attendtest.Connect(t, c)
	answered := make(chan error, 1)
	go func() {
		_, _, err := door.Ask(second, r, nil)
		answered <- err
	}()
	state, err := os.Open(filepath.Join(c.State, "m-1"))
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	if err := unix.Flock(int(state.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("while the first one serves: %v", err)
	}
	first.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"}); err == nil {
		b, err = l.AcceptUnix()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// TestOthersAreNotAnswered has somebody ask who may not, and for somebody else.
func TestOthersAreNotAnswered(t *testing.T) {
	c := place(t)
	other := uint32(os.Geteuid()) + 1
	if err := ask(t, c, door.Request{Verb: door.Admit, Owner: other, Folder: "notes"}); api.CodeOf(err) != api.Denied {
		t.Errorf("for somebody else: %v", err)
	}
	c.Peer, c.Log = other, slog.New(slog.DiscardHandler)
	ours, theirs := pair(t)
	if err := attend.Attend(t.Context(), theirs, c); err == nil || !strings.Contains(err.Error(), "only") {
		t.Errorf("a stranger: %v", err)
	}
	theirs.Close()
	if n, err := ours.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a stranger was answered: %d, %v", n, err)
	}
}
