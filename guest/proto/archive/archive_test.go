package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// long ago, with a fraction of a second.
var ago = time.Unix(1_234_567_890, 123_456_789)

// write makes a tree: "a/" is a folder, "a -> b" a symbolic link, "a = b" a
// hard link, "a: text" a file; a number in front is its mode.
func write(t *testing.T, dir string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		mode := fs.FileMode(0)
		if first, rest, ok := strings.Cut(line, " "); ok && strings.HasPrefix(first, "0") {
			fmt.Sscanf(first, "%o", &mode)
			line = rest
		}
		name, text, isFile := strings.Cut(line, ": ")
		from, to, isLink := strings.Cut(line, " -> ")
		other, first, isHard := strings.Cut(line, " = ")
		var err error
		switch {
		case isLink:
			err = os.Symlink(to, filepath.Join(dir, from))
		case isHard:
			err = os.Link(filepath.Join(dir, first), filepath.Join(dir, other))
		case isFile:
			err = os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
		default:
			name = line
			err = os.MkdirAll(filepath.Join(dir, name), 0o755)
		}
		if err == nil && mode != 0 {
			err = syscall.Chmod(filepath.Join(dir, name), uint32(mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range lines { // inner ones first
		name := strings.TrimSuffix(strings.Fields(lines[len(lines)-1-i])[0], ":")
		if strings.HasPrefix(name, "0") {
			name = strings.TrimSuffix(strings.Fields(lines[len(lines)-1-i])[1], ":")
		}
		ts := unix.NsecToTimespec(ago.UnixNano())
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(dir, name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			t.Fatal(err)
		}
	}
}

// tree tells all there is below dir, as write takes it, with every mode.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	names := map[uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%#o %s", st.Mode&0o7777, name)
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line = name + " -> " + to
		case fs.ModeDir:
			line += "/"
		case 0:
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if first := names[uint64(st.Ino)]; first != "" {
				line = name + " = " + first
			} else {
				names[uint64(st.Ino)] = name
				line += ": " + string(b)
			}
		default:
			line += " " + info.Mode().Type().String()
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func wantTree(t *testing.T, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("%s: %s", dir, diff)
	}
}

// packed is the archive of a path.
func packed(t *testing.T, root, path string, follow bool) []byte {
	t.Helper()
	s, err := Find(root, path, follow)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var b bytes.Buffer
	if err := s.Pack(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// receive unpacks an archive at a path.
func receive(t *testing.T, root, path, as string, b []byte) error {
	t.Helper()
	to, err := To(root, path)
	if err != nil {
		return err
	}
	defer to.Close()
	return to.Receive(bytes.NewReader(b), as, Options{Setid: true})
}

func TestATreeComesOutAsItWentIn(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	want := []string{
		"0750 tree/", "0755 tree/bin/", "04755 tree/bin/su: setuid", "0600 tree/secret: s", "0444 tree/read: only",
		"0700 tree/empty/", "01777 tree/tmp/", "tree/abs -> /etc/passwd", "tree/up -> ../..", "tree/gone -> no/such",
		"0644 tree/one: linked", "tree/two = tree/one", "0644 tree/ü\x01\xff: odd", "0644 tree/big: " + strings.Repeat("0123456789abcdef", 40_000),
	}
	write(t, from, want...)
	if err := receive(t, to, "/", "tree", packed(t, from, "tree", false)); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, tree(t, from)...)
	for _, name := range []string{"tree", "tree/secret", "tree/abs", "tree/empty", "tree/bin"} {
		info, err := os.Lstat(filepath.Join(to, name))
		if err != nil || !info.ModTime().Equal(ago) {
			t.Errorf("%s: time %v, %v; want %v", name, info.ModTime(), err, ago)
		}
	}
}

func TestAFolderThatCannotBeWrittenIsFilledBeforeItIsClosed(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	write(t, from, "0755 d/", "0755 d/e/", "0400 d/e/f: x", "0500 d/e", "0500 d")
	if err := receive(t, to, "/", "d", packed(t, from, "d", false)); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, "0500 d/", "0500 d/e/", "0400 d/e/f: x")
}

func TestOwnersAndTheirBitsAreKeptWhenAsked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root gives files away: run it as root")
	}
	from := t.TempDir()
	write(t, from, "0755 d/", "0644 d/su: x", "d/l -> su")
	for _, name := range []string{"d", "d/su", "d/l"} {
		if err := os.Lchown(filepath.Join(from, name), 4321, 1234); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Chmod(filepath.Join(from, "d/su"), 0o6755); err != nil {
		t.Fatal(err)
	}
	b := packed(t, from, "d", false)
	for o, want := range map[Options][2]uint32{
		{}:                         {0o755, 0},
		{Setid: true}:              {0o6755, 0},
		{Owner: true}:              {0o755, 4321},
		{Owner: true, Setid: true}: {0o6755, 4321},
	} {
		dir := t.TempDir()
		to, err := To(dir, "/")
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if err := to.Receive(bytes.NewReader(b), "d", o); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"d", "d/l", "d/su"} {
			var st syscall.Stat_t
			err := syscall.Lstat(filepath.Join(dir, name), &st)
			if err != nil || st.Uid != want[1] || (st.Gid == 1234) != o.Owner || name == "d/su" && uint32(st.Mode)&0o7777 != want[0] {
				t.Errorf("%+v: %s has mode %#o, owner %d:%d, %v", o, name, st.Mode, st.Uid, st.Gid, err)
			}
		}
	}
}

// TestTargets has the rules of where a file or folder goes.
func TestTargets(t *testing.T) {
	file, folder, contents, link := "f", "d", "d/.", "l"
	for _, c := range []struct {
		name, from, to string
		want           []string // what is new or other in the target
		err            string
	}{
		{"file to a new name", file, "new", []string{"0644 new: F"}, ""},
		{"file to a new name with a slash", file, "new/", nil, "no such folder to put a file into"},
		{"file over a file", file, "old", []string{"0644 old: F"}, ""},
		{"file into a folder", file, "dir", []string{"0644 dir/f: F"}, ""},
		{"file into a folder with a slash", file, "dir/", []string{"0644 dir/f: F"}, ""},
		{"file into the root", file, "/", []string{"0644 f: F"}, ""},
		{"file to a file with a slash", file, "old/", nil, "not a directory"},
		{"file below a file", file, "old/x", nil, "not a directory"},
		{"file below nothing", file, "no/such", nil, "the folder above it: no such file or directory"},
		{"file over a folder of its name", file, "occupied", nil, "there is a folder, which no file replaces"},
		{"file over a link to a file", file, "tofile", []string{"0644 old: F"}, ""},
		{"file over a link to a folder", file, "todir", []string{"0644 dir/f: F"}, ""},
		{"file over a link to nothing", file, "tonew", []string{"0644 dir/new: F"}, ""},
		{"file through a link that leaves", file, "out/f", nil, "the folder above it: no such file or directory"},
		{"file over a fifo", file, "fifo", nil, "neither a file nor a folder"},
		{"folder to a new name", folder, "new", []string{"0755 new/", "0644 new/x: X"}, ""},
		{"folder to a new name with a slash", folder, "new/", []string{"0755 new/", "0644 new/x: X"}, ""},
		{"folder into a folder", folder, "dir", []string{"0755 dir/d/", "0644 dir/d/x: X"}, ""},
		{"folder over a file", folder, "old", nil, "is a file: a folder cannot replace it"},
		{"folder onto one of its name", folder, "merge", []string{"0755 merge/d/", "0644 merge/d/x: X"}, ""},
		{"folder onto a file of its name", folder, "clash", nil, "is no folder"},
		{"folder onto a link of its name", folder, "linked", nil, "is a symbolic link, which is not followed"},
		{"contents into a folder", contents, "dir", []string{"0644 dir/x: X"}, ""},
		{"contents to a new name", contents, "new", []string{"0755 new/", "0644 new/x: X"}, ""},
		{"contents over a file", contents, "old", nil, "is a file: a folder cannot replace it"},
		{"a link itself", link, "new", []string{"new -> f"}, ""},
		{"a link over a file", link, "dir/link", []string{"dir/link -> f"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			write(t, from, "0644 f: F", "0755 d/", "0644 d/x: X", "l -> f")
			write(t, to, "0644 old: old", "0755 dir/", "tofile -> old", "todir -> dir", "tonew -> dir/new", "out -> ../../../nosuch",
				"0755 occupied/", "0755 occupied/f/", "0755 merge/", "0755 merge/d/", "0644 merge/d/kept: kept",
				"0755 clash/", "0644 clash/d: file", "0755 linked/", "linked/d -> ../dir")
			if err := syscall.Mkfifo(filepath.Join(to, "fifo"), 0o644); err != nil {
				t.Fatal(err)
			}
			before := tree(t, to)
			err := receive(t, to, c.to, Base(c.from), packed(t, from, c.from, false))
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && err != nil {
				t.Errorf("error %v, want %q", err, c.err)
			}
			want := slices.DeleteFunc(before, func(l string) bool {
				return slices.ContainsFunc(c.want, func(w string) bool { return nameOf(w) == nameOf(l) })
			})
			wantTree(t, to, append(want, c.want...)...)
		})
	}
}

// nameOf is the name in a line of tree.
func nameOf(line string) string {
	if strings.HasPrefix(line, "0") {
		_, line, _ = strings.Cut(line, " ")
	}
	line, _, _ = strings.Cut(line, ": ")
	line, _, _ = strings.Cut(line, " -> ")
	return line
}

func TestSourcesAreFound(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0755 d/", "0644 d/x: X", "l -> d", "deep -> /l/../d/x", "loop -> loop", "out -> ../../../../etc/passwd", "0644 f: F")
	for _, c := range []struct {
		path   string
		follow bool
		want   string // names of the entries, or the error
	}{
		{"d", false, "d/ d/x"},
		{"/d/", false, "d/ d/x"},
		{"d/.", false, "./ x"},
		{"/", false, "./ d/ d/x deep f l loop out"},
		{"..", false, "./ d/ d/x deep f l loop out"},
		{"../../d", false, "d/ d/x"},
		{"l", false, "l"},
		{"l", true, "l/ l/x"},
		{"l/", false, "l/ l/x"},
		{"l/x", false, "x"},
		{"deep", true, "deep"},
		{"out", false, "out"},
		{"out", true, `"out": no such file or directory`},
		{"loop", true, `"loop": too many levels of symbolic links`},
		{"nosuch", false, `"nosuch": no such file or directory`},
		{"f/", false, `"f/": not a directory`},
		{"f/.", false, `"f/.": not a directory`},
		{"f/x", false, `"f/x": not a directory`},
		{"", false, `cannot be copied: path "": 1 to 4096 bytes without a NUL expected`},
		{"a\x00b", false, `cannot be copied: path "a\x00b": 1 to 4096 bytes without a NUL expected`},
	} {
		s, err := Find(root, c.path, c.follow)
		var got string
		if err != nil {
			got = err.Error()
		} else {
			var b bytes.Buffer
			if err := s.Pack(&b); err != nil {
				t.Error(err)
			}
			s.Close()
			got = entries(t, &b)
		}
		if got != c.want {
			t.Errorf("%q, follow %v: %s, want %s", c.path, c.follow, got, c.want)
		}
	}
}

func entries(t *testing.T, b *bytes.Buffer) string {
	t.Helper()
	var names []string
	for r := tar.NewReader(b); ; {
		h, err := r.Next()
		if err != nil {
			return strings.Join(names, " ")
		}
		names = append(names, h.Name)
	}
}

func TestWhatCannotBeReadIsToldAndTheRestIsPacked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "0755 d/", "0644 d/a: A", "0644 d/c: C")
	if err := syscall.Mkfifo(filepath.Join(dir, "d/b"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		err = unix.Bind(l, &unix.SockaddrUnix{Name: filepath.Join(dir, "d/socket")})
		defer unix.Close(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	err = receive(t, to, "/", "d", packed(t, dir, "d", false))
	if lost, ok := errors.AsType[*Incomplete](err); !ok || lost.More != 0 || lost.Error() != `not copied: archive entry "d/b": a fifo` {
		t.Errorf("error %v", err)
	}
	wantTree(t, to, "0755 d/", "0644 d/a: A", "0644 d/c: C")
}

func TestAFileThatShrinksIsFilledUpAndTold(t *testing.T) {
	var b bytes.Buffer
	p := newPacker(&b)
	if err := p.write(&tar.Header{Typeflag: tar.TypeReg, Size: 10}, "f"); err != nil {
		t.Fatal(err)
	}
	if err := p.content(p.tar, strings.NewReader("abc"), "f", 10); err != nil {
		t.Fatal(err)
	}
	err := p.end()
	if want := `not copied: "f": it became 7 bytes shorter meanwhile`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	to := t.TempDir()
	if err := receive(t, to, "/", "f", b.Bytes()); err != nil {
		t.Fatal(err)
	}
	wantTree(t, to, "0 f: abc\x00\x00\x00\x00\x00\x00\x00")
}

func TestAPackerEndsWithItsReader(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "0644 f: "+strings.Repeat("x", 4<<20))
	s, err := Find(dir, "f", false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Pack(broken{}); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.EPIPE }
