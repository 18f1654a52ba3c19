package aegisbus_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// lengths tells how much of a value arrived.
type lengths struct {
	*scripted
	got chan string
}

func (l lengths) SetSecret(_ context.Context, name, value string) (api.Secret, error) {
	l.got <- value
	return api.Secret{Name: name}, nil
}

func TestValueIsReadFromWhateverWasPassed(t *testing.T) {
	address, s := bustest.Start(t), lengths{newScripted(), make(chan string, 1)}
	serve(t, address, s)
	root := bustest.Dial(t, address).Object(bus.AegisName, bus.AegisPath, bus.AegisManager)
	file, err := os.Create(filepath.Join(t.TempDir(), "value"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	io.WriteString(file, "file") // its offset is at the end now
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	io.WriteString(w, "pipe")
	w.Close()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	for want, f := range map[string]*os.File{"file": file, "pipe": r, strings.Repeat("\x00", api.MaxSecret+1): zero} {
		fd, err := bus.FD(f)
		if err != nil {
			t.Fatal(err)
		}
		var d bus.Dict
		if err := root.Call(t.Context(), "SetSecret", bus.Args{"A", fd}, &d); err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		if got := <-s.got; got != want {
			t.Errorf("%s: %d bytes arrived, want %d", f.Name(), len(got), len(want))
		}
	}
	writeOnly, err := os.OpenFile(file.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writeOnly.Close()
	fd, err := bus.FD(writeOnly)
	if err != nil {
		t.Fatal(err)
	}
	var d bus.Dict
	if err := root.Call(t.Context(), "SetSecret", bus.Args{"A", fd}, &d); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("a file that cannot be read: %v", err)
	}
}
