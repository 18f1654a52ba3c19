package cp

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/archive"
)

// guestAegis has one instance, whose files are below a folder. A test may take
// the place of its guest.
type guestAegis struct {
	api.Aegis
	t     *testing.T
	files *archive.Server
	n     int
	to    api.CopyToSpec
	// out and in are what the guest does instead, with its ends of the streams.
	out, in func(bytes, status net.Conn)
}

func (g *guestAegis) CopyFrom(_ context.Context, _ string, spec api.CopyFromSpec) (*api.Streams, error) {
	s := &api.Streams{}
	return s, g.copy(s, &s.Stdout, g.out, func(id string) error { return g.files.Out(id, spec.Path, spec.FollowLink) })
}

func (g *guestAegis) CopyTo(_ context.Context, _ string, spec api.CopyToSpec) (*api.Streams, error) {
	g.to = spec
	s := &api.Streams{}
	return s, g.copy(s, &s.Stdin, g.in, func(id string) error { return g.files.In(id, spec.Path, spec.Extract, spec.Owner) })
}

func (g *guestAegis) copy(s *api.Streams, data **os.File, instead func(bytes, status net.Conn), ask func(string) error) error {
	g.n++
	id := fmt.Sprint("copy-", g.n)
	if instead == nil {
		if err := ask(id); err != nil {
			return err
		}
	}
	bytes, status := g.pair(data), g.pair(&s.Status)
	if instead != nil {
		go instead(bytes, status)
		return nil
	}
	go g.files.Serve(bytes.(*net.UnixConn), proto.Prelude{Kind: proto.Archive, Process: id})
	go g.files.Serve(status.(*net.UnixConn), proto.Prelude{Kind: proto.Status, Process: id})
	return nil
}

// pair makes a stream: the client's end goes to place.
func (g *guestAegis) pair(place **os.File) net.Conn {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		g.t.Fatal(err)
	}
	syscall.SetNonblock(fds[0], true)
	*place = os.NewFile(uintptr(fds[0]), "stream")
	f := os.NewFile(uintptr(fds[1]), "guest")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { c.Close() })
	return c
}

// world is a guest's root, a folder of the host and a client.
func world(t *testing.T) (guest, host string, g *guestAegis, c *Client) {
	t.Helper()
	guest, host = t.TempDir(), t.TempDir()
	g = &guestAegis{t: t, files: archive.NewServer(guest)}
	t.Chdir(host)
	return guest, host, g, &Client{Aegis: g}
}

func put(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, name := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(name), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func wantFile(t *testing.T, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s: %q, %v; want %q", path, b, err, text)
	}
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b\a") {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestFilesGoBothWays(t *testing.T) {
	guest, host, g, c := world(t)
	ctx := t.Context()
	put(t, host, "d/x", "d/sub/y", "one")
	put(t, guest, "etc/conf")
	for _, err := range []error{
		c.FromHost(ctx, "d", "web", "/etc"),
		c.FromHost(ctx, "./d/.", "web", "srv"),
		c.FromHost(ctx, filepath.Join(host, "one"), "web", "/etc/two"),
		c.ToHost(ctx, "web", "/etc", "got"),
		c.ToHost(ctx, "web", "etc/.", "."),
		c.ToHost(ctx, "web", "srv/x", "d/z"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	for path, text := range map[string]string{
		"etc/d/x": "d/x", "etc/d/sub/y": "d/sub/y", "srv/x": "d/x", "etc/two": "one",
	} {
		wantFile(t, filepath.Join(guest, path), text)
	}
	for path, text := range map[string]string{"got/conf": "etc/conf", "got/d/sub/y": "d/sub/y", "conf": "etc/conf", "d/z": "d/x", "two": "one"} {
		wantFile(t, path, text)
	}
	if g.to.Extract || g.to.Owner {
		t.Errorf("asked for %+v", g.to)
	}
}

func TestArchivesGoBothWays(t *testing.T) {
	guest, _, _, c := world(t)
	put(t, guest, "d/x", "d/y")
	var b bytes.Buffer
	moved := 0
	c.Moved = func(n int) { moved += n }
	if err := c.ToWriter(t.Context(), "web", "/d", &b); err != nil || moved != b.Len() {
		t.Fatalf("%v, told of %d bytes of %d", err, moved, b.Len())
	}
	if err := os.Mkdir(filepath.Join(guest, "e"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.FromReader(t.Context(), bytes.NewReader(b.Bytes()), "web", "/e"); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(guest, "e/d/y"), "d/y")
}

func TestALinkIsFollowedWhenAsked(t *testing.T) {
	guest, host, _, c := world(t)
	put(t, guest, "f")
	put(t, host, "h")
	if err := errors.Join(os.Symlink("f", filepath.Join(guest, "l")), os.Symlink("h", "k")); err != nil {
		t.Fatal(err)
	}
	for _, follow := range []bool{false, true} {
		c.Follow = follow
		name := fmt.Sprint(follow)
		if err := errors.Join(c.ToHost(t.Context(), "web", "l", name), c.FromHost(t.Context(), "k", "web", name)); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{name, filepath.Join(guest, name)} {
			info, err := os.Lstat(path)
			if err != nil || info.Mode().IsRegular() != follow {
				t.Errorf("follow %v: %s is %v, %v", follow, path, info.Mode(), err)
			}
		}
	}
}

func TestRefusalsNameTheFile(t *testing.T) {
	guest, host, _, c := world(t)
	put(t, guest, "f", "d/x")
	put(t, host, "f", "d/x")
	ctx := t.Context()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nothing there":       {c.ToHost(ctx, "web", "/nosuch", "."), `"/nosuch": no such file or directory`},
		"nothing here":        {c.FromHost(ctx, "nosuch", "web", "/"), `nosuch": no such file or directory`},
		"no folder there":     {c.FromHost(ctx, "f", "web", "/no/such"), `"/no/such": the folder above it: no such file or directory`},
		"no folder here":      {c.ToHost(ctx, "web", "f", "no/such"), `the folder above it: no such file or directory`},
		"folder onto file":    {c.FromHost(ctx, "d", "web", "/f"), `"/f" is a file: a folder cannot replace it`},
		"folder onto file 2":  {c.ToHost(ctx, "web", "d", "f"), `is a file: a folder cannot replace it`},
		"archive into file":   {c.FromReader(ctx, strings.NewReader(""), "web", "/f"), "no folder to unpack an archive in"},
		"no archive":          {c.FromReader(ctx, strings.NewReader(strings.Repeat("x", 600)), "web", "/d"), "not a tar archive"},
		"broken input":        {c.FromReader(ctx, io.MultiReader(strings.NewReader("x"), brokenReader{}), "web", "/d"), "input/output error"},
		"output that is full": {c.ToWriter(ctx, "web", "/d", fullWriter{}), "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) { wantError(t, c.err, c.want) })
	}
	wantFile(t, "f", "f")
}

type (
	brokenReader struct{}
	fullWriter   struct{}
)

func (brokenReader) Read([]byte) (int, error) { return 0, syscall.EIO }
func (fullWriter) Write([]byte) (int, error)  { return 0, syscall.ENOSPC }

// archived is an archive with one file.
func archived(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGuestsThatLie has guests that do not do what they were asked for.
func TestGuestsThatLie(t *testing.T) {
	good := archived(t, "f", "text")
	ended := func(n int64) proto.End { return proto.End{Output: &proto.Output{Stdout: n}} }
	said := proto.End{ProcessStatus: proto.ProcessStatus{Code: 1, Message: "disk \x1b]0;x\a broke\n" + strings.Repeat("!", 5000)}}
	for name, c := range map[string]struct {
		archive []byte
		end     *proto.End
		want    string
	}{
		"another file":           {archived(t, ".bashrc", "evil"), &proto.End{}, `it is not in "f"`},
		"a file above":           {archived(t, "../f", "evil"), &proto.End{}, `".." in its name`},
		"less than it says":      {good, new(ended(9999)), "the copy broke off after"},
		"more than it says":      {good, new(ended(1)), "the copy broke off after"},
		"no number":              {good, &proto.End{}, "the copy broke off after"},
		"silence":                {good, nil, "lost the machine"},
		"cut off and silence":    {good[:600], nil, "lost the machine"},
		"cut off with a reason":  {good[:600], &said, "disk  ]0;x  broke !!!"},
		"whole with a reason":    {good, &said, "disk  ]0;x  broke !!!"},
		"nothing":                {nil, new(ended(0)), "the archive is empty"},
		"a refusal without word": {nil, &proto.End{ProcessStatus: proto.ProcessStatus{Code: 1}}, "does not say why"},
	} {
		t.Run(name, func(t *testing.T) {
			_, host, g, client := world(t)
			g.out = func(b, status net.Conn) {
				b.Write(c.archive)
				b.Close()
				if c.end != nil {
					proto.WriteEnd(status, *c.end)
				}
				status.Close()
			}
			wantError(t, client.ToHost(t.Context(), "web", "f", "."), c.want)
			if err := client.ToHost(t.Context(), "web", "f", "."); len(err.Error()) > 1200 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
			if left, err := filepath.Glob(filepath.Join(host, "*")); err != nil || len(left) > 1 || len(left) == 1 && filepath.Base(left[0]) != "f" {
				t.Errorf("left: %q, %v", left, err)
			}
		})
	}
}

func TestAGuestThatWantsNoMoreIsHeardAtOnce(t *testing.T) {
	_, host, g, c := world(t)
	put(t, host, "f")
	if err := os.Truncate("f", 1<<30); err != nil {
		t.Fatal(err)
	}
	g.in = func(b, status net.Conn) {
		io.ReadFull(b, make([]byte, 1000))
		b.Close()
		proto.WriteEnd(status, proto.End{ProcessStatus: proto.ProcessStatus{Code: 1, Message: "no space left"}})
		status.Close()
	}
	wantError(t, c.FromHost(t.Context(), "f", "web", "/"), "no space left")
	in, _, err := os.Pipe() // from which nothing comes
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	g.in = func(_, status net.Conn) {
		proto.WriteEnd(status, proto.End{ProcessStatus: proto.ProcessStatus{Code: 1, Message: "no space left"}})
		status.Close()
	}
	wantError(t, c.FromReader(t.Context(), in, "web", "/"), "no space left")
	g.in = func(b, status net.Conn) {
		b.Close()
		status.Close()
	}
	wantError(t, c.FromHost(t.Context(), "f", "web", "/"), "lost the machine")
}

func TestACopyEndsWithItsContext(t *testing.T) {
	_, host, g, c := world(t)
	put(t, host, "f")
	why := errors.New("interrupted")
	for name, copy := range map[string]func(context.Context) error{
		"to the host":   func(ctx context.Context) error { return c.ToHost(ctx, "web", "f", "g") },
		"from the host": func(ctx context.Context) error { return c.FromHost(ctx, "f", "web", "g") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			g.out = func(b, _ net.Conn) {
				b.Write(archived(t, "f", strings.Repeat("x", 4000))[:2000])
				cancel(why)
			}
			g.in = func(_, _ net.Conn) { cancel(why) }
			if err := copy(ctx); !errors.Is(err, why) {
				t.Errorf("error %v", err)
			}
			if left, _ := filepath.Glob("*"); len(left) != 1 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

func TestPathsStayWhatTheyMean(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a": dir + "/a", "a/": dir + "/a/", "a/.": dir + "/a/.", ".": dir + "/.", "./": dir + "/", "..": filepath.Dir(dir),
		"/": "/", "/.": "/.", "//a//": "/a/", "a/..": dir, "": "",
	} {
		if got := absolute(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

func TestOnlyIncompleteArchivesAreWhole(t *testing.T) {
	lost := &archive.Incomplete{First: errors.New("x")}
	for _, c := range []struct {
		err  error
		want bool
	}{{nil, true}, {lost, true}, {fmt.Errorf("a: %w", lost), true}, {errors.New("x"), false}, {refusedError{syscall.EPIPE}, false}} {
		if whole(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}
