package files

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// hostile is a folder with what a guest could have put there, beside things
// that it must not reach.
func hostile(t *testing.T) (f Folder, canary func() string) {
	t.Helper()
	around := t.TempDir()
	in := filepath.Join(around, "ws")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"ws/dir/sub", "ws-sibling", "outside"} {
		must(os.MkdirAll(filepath.Join(around, dir), 0o755))
	}
	for name, text := range map[string]string{
		"ws/file": "file", "ws/dir/sub/deep": "deep", "outside/secret": "secret", "ws-sibling/secret": "sibling",
	} {
		must(os.WriteFile(filepath.Join(around, name), []byte(text), 0o600))
	}
	for name, target := range map[string]string{
		"abs": filepath.Join(around, "outside/secret"), "rel": "../outside/secret", "sibling": "../ws-sibling",
		"absdir": filepath.Join(around, "outside"), "self": ".", "loop": "loop", "loopa": "loopb", "loopb": "loopa",
		"magic": "/proc/self/root/etc/passwd", "magicdir": "/proc/self/root", "fd": "/proc/self/fd/0", "cwd": "/proc/self/cwd",
		"dangling": "nowhere", "danglingout": "../nowhere", "danglingabs": "/nonexistent/x",
		"inside": "dir/sub/deep", "insidedir": "dir/sub", "absinside": filepath.Join(in, "file"),
		"dir/up": "../..", "dir/upin": "../file", "chain": "dir/up/outside/secret", "long": strings.Repeat("dir/../", 500) + "file",
		"rootlink": "/", "tofifo": "fifo", "dotdot": "..",
	} {
		must(os.Symlink(target, filepath.Join(in, name)))
	}
	must(unix.Mkfifo(filepath.Join(in, "fifo"), 0o666))
	l, err := net.Listen("unix", filepath.Join(in, "socket"))
	must(err)
	t.Cleanup(func() { l.Close() })
	_ = unix.Mknod(filepath.Join(in, "device"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) // zeros without end, where we may
	root, err := os.Open(in)
	must(err)
	t.Cleanup(func() { root.Close() })
	return Folder{root}, func() string {
		a, _ := os.ReadFile(filepath.Join(around, "outside/secret"))
		b, _ := os.ReadFile(filepath.Join(around, "ws-sibling/secret"))
		o, _ := os.ReadDir(filepath.Join(around, "outside"))
		s, _ := os.ReadDir(filepath.Join(around, "ws-sibling"))
		top, _ := os.ReadDir(around)
		return string(a) + string(b) + strings.Repeat("|", len(o)+len(s)+len(top))
	}
}

const (
	ok     = api.Code("")
	bad    = api.InvalidArgument
	denied = api.Denied
	none   = api.NotFound
)

// paths are what is answered to reading, writing and listing each of them.
var paths = []struct {
	path              string
	read, write, tree api.Code
}{
	{"file", ok, ok, bad},
	{"dir/sub/deep", ok, ok, bad},
	{"./dir//sub/./deep", ok, ok, bad},
	{"dir/../file", ok, ok, bad},
	{"inside", ok, denied, bad},
	{"insidedir/deep", ok, ok, bad},
	{"self/self/file", ok, ok, bad},
	{"dir/upin", ok, denied, bad},
	{"insidedir", bad, denied, ok},
	{"dir", bad, bad, ok},
	{"new/folder/file", none, ok, none},
	{"missing", none, ok, none},
	{"", bad, bad, bad},
	{".", bad, bad, ok},
	{"dir/", bad, bad, ok},
	{"/", bad, bad, bad},
	{"/file", bad, bad, bad},
	{"/etc/passwd", bad, bad, bad},
	{"..", bad, bad, bad},
	{"../outside/secret", bad, bad, bad},
	{"../ws-sibling/secret", bad, bad, bad},
	{"dir/../../outside/secret", bad, bad, bad},
	{"./..", bad, bad, bad},
	{"file\x00", bad, bad, bad},
	{"\x00", bad, bad, bad},
	{"abs", denied, denied, denied},
	{"rel", denied, denied, denied},
	{"absinside", denied, denied, denied},
	{"sibling", denied, denied, denied},
	{"sibling/secret", denied, denied, denied},
	{"absdir", denied, denied, denied},
	{"absdir/secret", denied, denied, denied},
	{"absdir/new", denied, denied, denied},
	{"absdir/new/deeper", denied, denied, denied},
	{"magic", denied, denied, denied},
	{"magicdir/etc/passwd", denied, denied, denied},
	{"fd", denied, denied, denied},
	{"cwd/file", denied, denied, denied},
	{"rootlink/etc/passwd", denied, denied, denied},
	{"dotdot/outside/secret", denied, denied, denied},
	{"dir/up/outside/secret", denied, denied, denied},
	{"chain", denied, denied, denied},
	{"dangling", none, denied, none},
	{"danglingout", denied, denied, denied},
	{"danglingabs", denied, denied, denied},
	{"dangling/new", none, none, none},
	{"loop", bad, denied, bad},
	{"loopa/x", bad, bad, bad},
	{"long", ok, denied, bad},
	{"file/below", bad, bad, bad},
	{"fifo", bad, bad, bad},
	{"tofifo", bad, denied, bad},
	{"socket", bad, bad, bad},
	{strings.Repeat("n", 256), bad, bad, bad},
	{strings.Repeat("n", 256) + "/x", bad, bad, bad},
	{strings.Repeat("d/", 2100) + "f", bad, bad, bad},
	{"ünï\n\x1b[31m\xff", none, ok, none},
}

func TestPathsStayInTheFolder(t *testing.T) {
	for _, c := range paths {
		f, canary := hostile(t)
		before := canary()
		opened, err := f.Open(c.path)
		if err == nil {
			opened.Close()
		}
		wantCode(t, "reading", c.path, err, c.read)
		_, err = f.Tree(c.path)
		wantCode(t, "listing", c.path, err, c.tree)
		wantCode(t, "writing", c.path, f.Write(c.path, strings.NewReader("written")), c.write)
		if c.write == ok {
			if got := content(t, f, c.path); got != "written" {
				t.Errorf("%.80q: %q was written", c.path, got)
			}
		}
		if after := canary(); after != before {
			t.Errorf("%.80q: outside is %q now", c.path, after)
		}
	}
}

func wantCode(t *testing.T, what, path string, err error, want api.Code) {
	t.Helper()
	if got := api.CodeOf(err); got != want {
		t.Errorf("%s %.80q: %v, expected %q", what, path, err, want)
	}
	if err != nil && (strings.ContainsAny(err.Error(), "\n\x1b") || len(err.Error()) > 1000) {
		t.Errorf("%s %.80q: not fit for a line: %q", what, path, err)
	}
}

func content(t *testing.T, f Folder, path string) string {
	t.Helper()
	opened, err := f.Open(path)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer opened.Close()
	b := make([]byte, 100)
	n, _ := opened.Read(b)
	return string(b[:n])
}

// TestDevicesAreNotOpened needs root, who may make one.
func TestDevicesAreNotOpened(t *testing.T) {
	f, _ := hostile(t)
	if _, err := os.Stat(filepath.Join(f.Root.Name(), "device")); err != nil {
		t.Skip("making a device needs root")
	}
	_, err := f.Open("device")
	wantCode(t, "reading", "device", err, bad)
	wantCode(t, "writing", "device", f.Write("device", strings.NewReader("x")), bad)
}

// TestBlobsStayInTheFolder has a guest that leads the folder of blobs astray.
func TestBlobsStayInTheFolder(t *testing.T) {
	for target, want := range map[string]api.Code{
		"../outside": denied, "/": denied, "dir": ok, "file": bad, ".": ok, "loop": bad, "fifo": bad, "nowhere": none,
	} {
		f, canary := hostile(t)
		before := canary()
		if err := os.Symlink(target, filepath.Join(f.Root.Name(), ".aegis")); err != nil {
			t.Fatal(err)
		}
		_, err := f.Put("image/png", strings.NewReader("pixels"))
		wantCode(t, "a blob by", target, err, want)
		if after := canary(); after != before {
			t.Errorf("%s: outside is %q now", target, after)
		}
	}
}

// TestFoldersWithoutEnd have more entries than an answer.
func TestFoldersWithoutEnd(t *testing.T) {
	dir := t.TempDir()
	one := filepath.Join(dir, "0")
	if err := os.WriteFile(one, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxEntries {
		if err := unix.Link(one, filepath.Join(dir, strings.Repeat("x", 1+i%200)+string(rune('a'+i/200%26))+string(rune('a'+i/5200)))); err != nil {
			t.Skipf("links: %v", err)
		}
	}
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, err = Folder{root}.Tree(".")
	wantCode(t, "listing", ".", err, api.LimitExceeded)
	if err := os.Remove(one); err != nil {
		t.Fatal(err)
	}
	if all, err := (Folder{root}).Tree("."); err != nil || len(all) != maxEntries {
		t.Errorf("%d entries, %v", len(all), err)
	}
}
