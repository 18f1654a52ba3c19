package bus_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

func tempFile(t *testing.T, content string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestFilesTravelBothWays(t *testing.T) {
	_, _, thing := connect(t)
	in := tempFile(t, "content")
	var out *os.File
	if err := thing.Call(t.Context(), "Swap", bus.Args{in}, &out); err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	got, err := io.ReadAll(out)
	if err != nil || string(got) != "CONTENT" {
		t.Errorf("got %q (%v)", got, err)
	}
	if _, err := in.Stat(); err != nil {
		t.Errorf("the caller's file was closed: %v", err)
	}
}

func TestFilesTravelInsideStructures(t *testing.T) {
	_, _, thing := connect(t)
	type disk struct {
		Role     string
		ReadOnly bool
		File     dbus.UnixFD
	}
	var disks []disk
	for _, content := range []string{"ab", "cde"} {
		fd, err := bus.FD(tempFile(t, content))
		if err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk{"own", false, fd})
	}
	var total uint32
	if err := thing.Call(t.Context(), "Nested", bus.Args{disks}, &total); err != nil || total != 5 {
		t.Errorf("total %d (%v), 5 expected", total, err)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd here")
	}
	return len(fds)
}

func TestNoCallLeaksDescriptors(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	client := bustest.Dial(t, address)
	thing, f := client.Object(name, root+"/thing/one", iface), tempFile(t, "x")
	calls := map[string]func() error{
		"a good call": func() error {
			var out *os.File
			if err := thing.Call(t.Context(), "Swap", bus.Args{f}, &out); err != nil {
				return err
			}
			return out.Close()
		},
		"a reply whose results nobody wants": func() error { return thing.Call(t.Context(), "Swap", bus.Args{f}) },
		"a reply of another type": func() error {
			var n uint32
			if thing.Call(t.Context(), "Swap", bus.Args{f}, &n) == nil {
				t.Error("a descriptor was stored in a number")
			}
			return nil
		},
		"a call with wrong arguments": func() error { thing.Call(t.Context(), "Count", bus.Args{f, f}); return nil },
		"a call to nobody": func() error {
			client.Object(name, "/none", iface).Call(t.Context(), "Swap", bus.Args{f})
			return nil
		},
	}
	before := openFiles(t)
	for when, call := range calls {
		for range 20 {
			if err := call(); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
		settle(t, thing)
		if now := openFiles(t); now > before {
			t.Errorf("%s: %d open files, %d expected", when, now, before)
		}
	}
}

func TestADescriptorInAReplyThatComesTooLateIsClosed(t *testing.T) {
	address := bustest.Start(t)
	called, writer := make(chan chan struct{}), (*os.File)(nil)
	table := (&thing{}).table()
	table.Methods["Swap"] = func(_ context.Context, r *bus.Request, _ dbus.UnixFD) (dbus.UnixFD, error) {
		answer := make(chan struct{})
		called <- answer
		<-answer
		reader, w, err := os.Pipe()
		writer = w
		called <- nil
		return r.Send(reader), err
	}
	conn := bustest.Dial(t, address)
	if _, err := conn.Export(root, table); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		var out *os.File
		ended <- bustest.Dial(t, address).Object(conn.UniqueName(), root, iface).Call(ctx, "Swap", bus.Args{tempFile(t, "x")}, &out)
	}()
	answer := <-called
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, context.Canceled expected", err)
	}
	close(answer)
	<-called
	defer writer.Close()
	// The pipe breaks when both sides have closed their reading ends.
	fds := []unix.PollFd{{Fd: int32(writer.Fd())}}
	if _, err := unix.Poll(fds, 5000); err != nil || fds[0].Revents&unix.POLLERR == 0 {
		t.Errorf("somebody still holds the descriptor (%v)", err)
	}
}

// settle makes a round trip, after which earlier requests are done but for
// the last lines of their handlers; those end with a second one.
func settle(t *testing.T, thing bus.Object) {
	t.Helper()
	for range 3 {
		if err := thing.Call(t.Context(), "Count", bus.Args{uint32(0)}); err != nil {
			t.Fatal(err)
		}
	}
}
