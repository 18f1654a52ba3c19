package console_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/daemons/aegis/console"
)

func open(t *testing.T) (*console.Console, *os.File) {
	t.Helper()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Skipf("SKIPPED: no pseudoterminals: %v", err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	c, err := console.Open(theirs)
	if err != nil {
		t.Fatal(err)
	}
	return c, theirs
}

func modes(t *testing.T, f *os.File) term.State {
	t.Helper()
	s, err := term.GetState(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return *s
}

var everything = cmp.Exporter(func(reflect.Type) bool { return true })

func TestRawAndRestore(t *testing.T) {
	c, tty := open(t)
	before := modes(t, tty)
	c.Restore() // nothing to restore
	for range 2 {
		if err := errors.Join(c.Raw(), c.Raw()); err != nil {
			t.Fatal(err)
		}
		if cmp.Equal(before, modes(t, tty), everything) {
			t.Error("raw changed nothing")
		}
		c.Restore()
		c.Restore()
		if diff := cmp.Diff(before, modes(t, tty), everything); diff != "" {
			t.Errorf("after the restore: %s", diff)
		}
	}
}

func TestAPanicRestores(t *testing.T) {
	c, tty := open(t)
	before := modes(t, tty)
	if err := c.Raw(); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if r := recover(); r != "as asked" {
				t.Errorf("the panic became %v", r)
			}
		}()
		defer c.Guard()
		panic("as asked")
	}()
	if diff := cmp.Diff(before, modes(t, tty), everything); diff != "" {
		t.Errorf("after the panic: %s", diff)
	}
}

func TestSize(t *testing.T) {
	c, tty := open(t)
	if err := pty.Setsize(tty, &pty.Winsize{Rows: 60, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	if rows, cols := c.Size(); rows != 60 || cols != 200 {
		t.Errorf("%d rows, %d columns", rows, cols)
	}
}

func TestWhatIsNoTerminalIsRefused(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, in := range []*os.File{nil, f} {
		if _, err := console.Open(in); !errors.Is(err, console.ErrNone) {
			t.Errorf("open: %v", err)
		}
	}
}
