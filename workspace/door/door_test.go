package door

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

func file(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func wantContent(t *testing.T, f *os.File, want string) {
	t.Helper()
	if f == nil {
		t.Error("no descriptor")
		return
	}
	defer f.Close()
	b := make([]byte, 100)
	if n, _ := f.ReadAt(b, 0); string(b[:n]) != want {
		t.Errorf("the descriptor has %q, expected %q", b[:n], want)
	}
}

func TestARequestAndItsAnswer(t *testing.T) {
	aegisd, server := pair(t)
	want := Request{Version: Version, Verb: Write, Owner: 1000, Folder: "/home/u/\u00fc \"x\"", Path: "a\xffb"}
	type asked struct {
		Answer
		f   *os.File
		err error
	}
	done := make(chan asked)
	go func() { // ends with the answer
		a, f, err := Ask(aegisd, want, file(t, "there"))
		done <- asked{a, f, err}
	}()
	r, f, err := Take(server)
	want.Path = "a\ufffdb" // names that are no text do not travel
	if err != nil || r != want {
		t.Errorf("%v, %s", err, cmp.Diff(want, r))
	}
	wantContent(t, f, "there")
	blob := api.Blob{Blob: "x.png", MediaType: "image/png", Size: 1}
	if err := Reply(server, Answer{Blob: &blob}, file(t, "back")); err != nil {
		t.Fatal(err)
	}
	got := <-done
	if got.err != nil || got.Blob == nil || *got.Blob != blob {
		t.Errorf("%+v", got)
	}
	wantContent(t, got.f, "back")
}

func TestARefusalIsTheSameErrorOnBothSides(t *testing.T) {
	aegisd, server := pair(t)
	if err := Refuse(server, api.Errorf(api.Denied, "no: %w", os.ErrPermission)); err != nil {
		t.Fatal(err)
	}
	_, _, err := Ask(aegisd, Request{Verb: Admit, Folder: "/x"}, nil)
	if api.CodeOf(err) != api.Denied || err.Error() != "no: permission denied" {
		t.Errorf("%v", err)
	}
	server.Close()
	_, _, err = Ask(aegisd, Request{Verb: Admit, Folder: "/x"}, nil)
	if refused := (*api.Error)(nil); err == nil || errors.As(err, &refused) {
		t.Errorf("of a server that has gone: %v", err)
	}
	if _, _, err := Ask(aegisd, Request{Verb: Read, Folder: "/x", Path: strings.Repeat("x", maxMessage)}, nil); api.CodeOf(err) != api.InvalidArgument {
		t.Errorf("too much: %v", err)
	}
}

func TestMessagesThatMakeNoSenseAreRefused(t *testing.T) {
	valid := Request{Version: Version, Verb: Serve, Machine: "m-1", Folder: "/x"}
	change := func(f func(*Request)) string {
		r := valid
		f(&r)
		b, _ := json.Marshal(r)
		return string(b)
	}
	for text, want := range map[string]api.Code{
		change(func(*Request) {}):                                    "",
		change(func(r *Request) { r.Version = 2 }):                   api.Unavailable,
		change(func(r *Request) { r.Verb = "mount" }):                api.InvalidArgument,
		change(func(r *Request) { r.Machine = "../m" }):              api.InvalidArgument,
		change(func(r *Request) { r.Machine = "" }):                  api.InvalidArgument,
		change(func(r *Request) { r.Folder = "" }):                   api.InvalidArgument,
		change(func(r *Request) { r.Folder = "a/b" }):                api.InvalidArgument,
		change(func(r *Request) { r.Folder = ".hidden" }):            api.InvalidArgument,
		change(func(r *Request) { r.Folder = "/x/../y" }):            api.InvalidArgument,
		change(func(r *Request) { r.Verb, r.Folder = Remove, "/x" }): api.InvalidArgument,
		change(func(r *Request) { r.Verb, r.Folder = Remove, "" }):   "",
		change(func(r *Request) { r.Verb, r.Folder = Forget, "" }):   "",
		`{"version":1,"verb":"forget","machine":"m-1","root":"/"}`:   api.InvalidArgument,
		`{"version":1,"verb":"forget","machine":"m-1"} {}`:           api.InvalidArgument,
		`{"version":1,"verb":"forget","machine":"m-1","owner":-1}`:   api.InvalidArgument,
		`[]`: api.InvalidArgument,
		`{"version":1` + strings.Repeat(" ", maxMessage): api.InvalidArgument,
	} {
		aegisd, server := pair(t)
		f := file(t, "")
		if _, _, err := aegisd.WriteMsgUnix([]byte(text), unix.UnixRights(int(f.Fd())), nil); err != nil {
			t.Fatal(err)
		}
		_, got, err := Take(server)
		if api.CodeOf(err) != want || (got != nil) != (want == "") {
			t.Errorf("%.100s: %v, descriptor %v", text, err, got)
		}
		closeFile(got)
	}
}
