package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// e is an entry of a hostile archive.
type e struct {
	kind byte
	name string
	link string
	data string
	mode int64
	// attrs are extended attributes.
	attrs map[string]string
}

// mustArchive writes entries as they are; nothing is checked.
func mustArchive(entries ...e) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range entries {
		if x.mode == 0 {
			x.mode = 0o644
		}
		h := &tar.Header{Typeflag: x.kind, Name: x.name, Linkname: x.link, Size: int64(len(x.data)), Mode: x.mode, ModTime: ago.Truncate(time.Second)}
		for name, value := range x.attrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[attrRecord+name] = value
		}
		if err := w.WriteHeader(h); err != nil {
			panic(fmt.Sprintf("%+v: %v", x, err))
		}
		if _, err := io.WriteString(w, x.data); err != nil {
			panic(fmt.Sprintf("%+v: %v", x, err))
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

const (
	isFile = tar.TypeReg
	isDir  = tar.TypeDir
	isSym  = tar.TypeSymlink
	isHard = tar.TypeLink
)

// canary makes a folder with a target in it, and much beside and in the target
// that an archive must leave alone.
func canary(t testing.TB) (root, target string) {
	t.Helper()
	root = t.TempDir()
	target = filepath.Join(root, "target")
	for name, text := range map[string]string{
		"secret": "canary", "beside/file": "canary", "beside/deep/file": "canary", "target/own": "mine", "target/dir/own": "mine",
	} {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"out": "../beside", "in": "dir", "abs": filepath.Join(root, "beside"), "tofile": "../secret"} {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root, target
}

// wantCanary wants everything beside the target to be as it was.
func wantCanary(t *testing.T, root string) {
	t.Helper()
	var got []string
	for _, line := range tree(t, root) {
		if name := nameOf(line); name != "target/" && !strings.HasPrefix(name, "target/") && !strings.Contains(line, " = target/") {
			got = append(got, line)
		}
	}
	want := "0600 beside/deep/file: canary|0600 beside/file: canary|0600 secret: canary|0755 beside/|0755 beside/deep/"
	if strings.Join(got, "|") != want {
		t.Errorf("beside the target: %q", got)
	}
}

// cut is the archive of an entry, cut off after so many bytes.
func cut(x e, n int) []byte { return mustArchive(x)[:n] }

// withTime is a file of another time.
func withTime(at time.Time) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Size: 1, Mode: 0o644, ModTime: at, Format: tar.FormatPAX}); err != nil {
		panic(err)
	}
	io.WriteString(w, "1")
	w.Close()
	return b.Bytes()
}

// patched is a header with other bytes at some places and a right checksum.
func patched(x e, at map[int]string) []byte {
	b := mustArchive(x)[:512]
	for i, text := range at {
		copy(b[i:], text)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// lying says that it has 8 GiB less one.
func lying() []byte {
	return append(patched(e{kind: isFile, name: "x"}, map[int]string{124: "77777777777\x00"}), make([]byte, 4096)...)
}

// negative says that it has less than nothing.
func negative() []byte {
	return append(patched(e{kind: isFile, name: "x"}, map[int]string{124: strings.Repeat("\xff", 12)}), make([]byte, 4096)...)
}

// oldSparse says in the words of GNU tar before 2004 that its MiB is a hole.
func oldSparse() []byte {
	const all = "00004000000\x00"
	b := patched(e{kind: isFile, name: "s"}, map[int]string{156: "S", 257: "ustar  \x00", 386: all + "00000000000\x00", 483: all})
	return append(b, make([]byte, 1024)...)
}

// extended writes a file called x with records, which nobody checks, before
// it, and an end.
func extended(data string, records ...string) []byte {
	text := ""
	for _, r := range records {
		key, value, _ := strings.Cut(r, "=")
		text += record(key, value)
	}
	b := plainHeader(tar.TypeXHeader, "x", 0o644, int64(len(text)))
	b = append(b, pad([]byte(text))...)
	return append(b, mustArchive(e{kind: isFile, name: "x", data: data})...)
}

// sparseOf is a file of a size whose map, with content after it, is given.
func sparseOf(size string, layout, content string) []byte {
	return extended(string(pad([]byte(layout)))+content, "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=s", "GNU.sparse.realsize="+size)
}

// hostile are archives that want out, or too much. The first has what was
// asked for by name "x"; with whole the archive is taken as it is.
var hostile = []struct {
	name    string
	whole   bool
	entries []e
	raw     []byte // instead of entries
	err     string // "" for an archive that is harmless after all
	made    string // a line of tree that must be there then
}{
	{name: "parent", whole: true, entries: []e{{kind: isFile, name: "../secret", data: "!"}}, err: `".." in its name`},
	{name: "parent in the middle", whole: true, entries: []e{{kind: isFile, name: "a/../../secret", data: "!"}}, err: `".." in its name`},
	{name: "parent that stays inside", whole: true, entries: []e{{kind: isFile, name: "a/../b", data: "!"}}, err: `".." in its name`},
	{name: "parent as a folder", whole: true, entries: []e{{kind: isDir, name: "..", mode: 0o777}}, err: `".." in its name`},
	{name: "absolute", whole: true, entries: []e{{kind: isFile, name: "/etc/passwd", data: "!"}}, err: "an absolute name"},
	{name: "absolute folder", whole: true, entries: []e{{kind: isDir, name: "/", mode: 0o777}}, err: "an absolute name"},
	{name: "two slashes", whole: true, entries: []e{{kind: isFile, name: "//secret", data: "!"}}, err: "an absolute name"},
	{name: "odd spelling", whole: true, entries: []e{{kind: isFile, name: "./a/.//b", data: "!"}}, made: "0644 a/b: !"},
	{name: "no name", whole: true, entries: []e{{kind: isDir, name: ""}}, err: "without a name"},
	{name: "file called dot", whole: true, entries: []e{{kind: isFile, name: ".", data: "!"}}, err: "it would replace the target itself"},
	{name: "link called dot", whole: true, entries: []e{{kind: isSym, name: "./", link: "/etc"}}, err: "it would replace the target itself"},
	{name: "through a link out", whole: true, entries: []e{{kind: isSym, name: "l", link: "../beside"}, {kind: isFile, name: "l/file", data: "!"}}, err: "l\" is a symbolic link"},
	{name: "through an absolute link", whole: true, entries: []e{{kind: isSym, name: "l", link: "/tmp"}, {kind: isFile, name: "l/aegis-canary", data: "!"}}, err: "is a symbolic link"},
	{name: "through a link in", whole: true, entries: []e{{kind: isSym, name: "l", link: "dir"}, {kind: isFile, name: "l/own", data: "!"}}, err: "is a symbolic link"},
	{name: "through two links", whole: true, entries: []e{{kind: isSym, name: "a", link: "b"}, {kind: isSym, name: "b", link: ".."}, {kind: isFile, name: "a/secret", data: "!"}}, err: "is a symbolic link"},
	{name: "through a link that was there", whole: true, entries: []e{{kind: isFile, name: "out/file", data: "!"}}, err: "is a symbolic link"},
	{name: "through an absolute one that was there", whole: true, entries: []e{{kind: isFile, name: "abs/file", data: "!"}}, err: "is a symbolic link"},
	{name: "folder over a link that was there", whole: true, entries: []e{{kind: isDir, name: "out", mode: 0o777}, {kind: isFile, name: "out/file", data: "!"}}, err: "is a symbolic link"},
	{name: "folder over a link of its own", whole: true, entries: []e{{kind: isSym, name: "l", link: ".."}, {kind: isDir, name: "l", mode: 0o777}}, err: "is a symbolic link"},
	{name: "file over a link", whole: true, entries: []e{{kind: isFile, name: "tofile", data: "!"}}, made: "0644 tofile: !"},
	{name: "file over a link of its own", whole: true, entries: []e{{kind: isSym, name: "l", link: "../secret"}, {kind: isFile, name: "l", data: "!"}}, made: "0644 l: !"},
	{name: "link over a link", whole: true, entries: []e{{kind: isSym, name: "out", link: "elsewhere"}}, made: "out -> elsewhere"},
	{name: "link over a folder", whole: true, entries: []e{{kind: isSym, name: "dir", link: "../beside"}, {kind: isFile, name: "dir/file", data: "!"}}, err: "there is a folder, which no file replaces"},
	{name: "file over a folder of its own", whole: true, entries: []e{{kind: isDir, name: "d", mode: 0o755}, {kind: isFile, name: "d", data: "!"}}, err: "there is a folder, which no file replaces"},
	{name: "below a file", whole: true, entries: []e{{kind: isFile, name: "f", data: "!"}, {kind: isFile, name: "f/g", data: "!"}}, err: "is no folder"},
	{name: "duplicates", whole: true, entries: []e{{kind: isFile, name: "f", data: "1"}, {kind: isFile, name: "f", data: "22"}, {kind: isFile, name: "./f", data: "3"}}, made: "0644 f: 3"},
	{name: "hard link out", whole: true, entries: []e{{kind: isHard, name: "l", link: "../secret"}, {kind: isFile, name: "l", data: "!"}}, err: `".." in its name`},
	{name: "hard link to an absolute name", whole: true, entries: []e{{kind: isHard, name: "l", link: "/etc/passwd"}}, err: "an absolute name"},
	{name: "hard link to what was there", whole: true, entries: []e{{kind: isHard, name: "l", link: "own"}}, err: "no file that came before it"},
	{name: "hard link to a link out", whole: true, entries: []e{{kind: isSym, name: "s", link: "../secret"}, {kind: isHard, name: "l", link: "s"}}, err: "no file that came before it"},
	{name: "hard link to a file that became a link", whole: true, entries: []e{
		{kind: isFile, name: "s", data: "1"}, {kind: isSym, name: "s", link: "../secret"}, {kind: isHard, name: "l", link: "s"},
	}, err: "no file that came before it"},
	{name: "hard link through a link", whole: true, entries: []e{{kind: isFile, name: "f", data: "1"}, {kind: isHard, name: "l", link: "out/file"}}, err: "no file that came before it"},
	{name: "hard link to a folder", whole: true, entries: []e{{kind: isDir, name: "d", mode: 0o755}, {kind: isHard, name: "l", link: "d"}}, err: "no file that came before it"},
	{name: "hard link to itself", whole: true, entries: []e{{kind: isFile, name: "f", data: "1"}, {kind: isHard, name: "f", link: "f"}}, made: "0644 f: 1"},
	{name: "write through a hard link", whole: true, entries: []e{{kind: isFile, name: "f", data: "1"}, {kind: isHard, name: "g", link: "f"}, {kind: isFile, name: "g", data: "2"}}, made: "0644 f: 1"},
	{name: "character device", whole: true, entries: []e{{kind: tar.TypeChar, name: "null"}, {kind: isFile, name: "after", data: "1"}}, err: `"null": a device`, made: "0644 after: 1"},
	{name: "block device", whole: true, entries: []e{{kind: tar.TypeBlock, name: "disk"}}, err: `"disk": a device`},
	{name: "fifo", whole: true, entries: []e{{kind: tar.TypeFifo, name: "pipe"}, {kind: tar.TypeFifo, name: "pipe2"}}, err: `"pipe": a fifo (and 1 more)`},
	{name: "fifo over a file", whole: true, entries: []e{{kind: tar.TypeFifo, name: "own"}}, err: `"own": a fifo`, made: "0600 own: mine"},
	{name: "unknown kind", whole: true, entries: []e{{kind: 'Z', name: "z"}}, err: "of the unknown kind 'Z'"},
	{name: "contiguous file", whole: true, entries: []e{{kind: tar.TypeCont, name: "z"}}, err: "a contiguous file"},
	{name: "setuid", whole: true, entries: []e{{kind: isFile, name: "su", data: "1", mode: 0o6755}}, made: "0755 su: 1"},
	{name: "setuid folder", whole: true, entries: []e{{kind: isDir, name: "sd", mode: 0o7777}}, made: "01777 sd/"},
	{name: "long name", whole: true, entries: []e{{kind: isFile, name: strings.Repeat("a", 256), data: "!"}}, err: "a part of its name has 256 bytes"},
	{name: "long path", whole: true, entries: []e{{kind: isFile, name: strings.Repeat("a/", 2100) + "f", data: "!"}}, err: "a name of 4201 bytes"},
	{name: "deep path", whole: true, entries: []e{{kind: isFile, name: strings.Repeat("a/", 257) + "f", data: "!"}}, err: "258 folders deep"},
	{name: "long link", whole: true, entries: []e{{kind: isSym, name: "l", link: strings.Repeat("a/", 2100)}}, err: "a link to a name of 4200 bytes"},
	{name: "far times", whole: true, raw: withTime(time.Unix(1<<62, 0)), made: "0644 f: 1"},
	{name: "terminal control in a name", whole: true, entries: []e{{kind: isFile, name: "../\x1b]0;title\a", data: "!"}}, err: `"../\x1b]0;title\a"`},
	{name: "another item", entries: []e{{kind: isFile, name: "own", data: "!"}}, err: `it is not in "x", which was asked for`},
	{name: "another item after it", entries: []e{{kind: isDir, name: "x/", mode: 0o755}, {kind: isFile, name: ".ssh/authorized_keys", data: "!"}}, err: "it is not in"},
	{name: "an item that begins like it", entries: []e{{kind: isDir, name: "x/", mode: 0o755}, {kind: isFile, name: "xy", data: "!"}}, err: "it is not in"},
	{name: "item that becomes a link", entries: []e{{kind: isSym, name: "x", link: ".."}, {kind: isFile, name: "x/secret", data: "!"}}, err: "is a symbolic link"},
	{name: "hard link to another item", entries: []e{{kind: isDir, name: "x/", mode: 0o755}, {kind: isHard, name: "x/l", link: "own"}}, err: "it is not in"},
	{name: "nothing at all", raw: []byte{}, err: "the archive is empty"},
	{name: "no entries", raw: make([]byte, 1024), err: "the archive is empty"},
	{name: "no archive", raw: []byte(strings.Repeat("garbage ", 200)), err: "not a tar archive"},
	{name: "gzip", raw: append([]byte{0x1f, 0x8b, 8}, make([]byte, 2000)...), err: "not a tar archive"},
	{name: "half a header", raw: []byte("x"), err: "not a tar archive"},
	{name: "broken file", raw: cut(e{kind: isFile, name: "x", data: strings.Repeat("1", 5000)}, 2000), err: "breaks off after 1488 of its 5000 bytes"},
	{name: "broken after a header", raw: cut(e{kind: isFile, name: "x", data: "1"}, 512), err: "breaks off after 0 of its 1 bytes"},
	{name: "no end", raw: cut(e{kind: isFile, name: "x", data: "1"}, 1024), err: "breaks off after 1 entries: its end is missing"},
	{name: "cut in its padding", raw: cut(e{kind: isFile, name: "x", data: "1"}, 600), err: "breaks off after 1 entries: its end is missing"},
	{name: "lying size", raw: lying(), err: "breaks off"},
	{name: "negative size", raw: negative(), err: "not a tar archive"},
	{name: "bytes after the end", whole: true, raw: append(mustArchive(e{kind: isFile, name: "f", data: "1"}), make([]byte, 2<<20)...), err: "goes on after its end"},
	{name: "old sparse file", whole: true, raw: oldSparse(), made: "0644 s: " + strings.Repeat("\x00", 1<<20)},
	{name: "sparse file", whole: true, raw: sparseOf("6", "2\n1\n2\n4\n1\n", "abc"), made: "0644 s: \x00ab\x00c\x00"},
	{name: "sparse file out", whole: true, raw: extended(string(pad([]byte("0\n"))), "GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=../secret", "GNU.sparse.realsize=5"), err: `".." in its name`},
	{name: "sparse file by another name", raw: sparseOf("5", "0\n", ""), err: `it is not in "x", which was asked for`},
	{name: "sparse file without content", whole: true, raw: sparseOf("9", "0\n", ""), made: "0644 s: " + strings.Repeat("\x00", 9)},
	{name: "sparse file of a size below zero", whole: true, raw: sparseOf("-1", "0\n", ""), err: "not a tar archive"},
	{name: "sparse file of no size", whole: true, raw: sparseOf("much", "0\n", ""), err: "not a tar archive"},
	{name: "sparse file beyond all", whole: true, raw: sparseOf("9223372036854775807", "0\n", ""), err: "sparse files of more than"},
	{name: "sparse file of a TiB", whole: true, raw: sparseOf("1099511627776", "1\n1099511627776\n0\n", ""), err: "sparse files of more than"},
	{name: "sparse map that overlaps", whole: true, raw: sparseOf("9", "2\n0\n4\n3\n4\n", "abcdefgh"), err: "not a tar archive"},
	{name: "sparse map out of order", whole: true, raw: sparseOf("9", "2\n5\n1\n0\n1\n", "ab"), err: "not a tar archive"},
	{name: "sparse map beyond the end", whole: true, raw: sparseOf("9", "1\n8\n2\n", "ab"), err: "not a tar archive"},
	{name: "sparse map below zero", whole: true, raw: sparseOf("9", "1\n-1\n2\n", "ab"), err: "not a tar archive"},
	{name: "sparse map that overflows", whole: true, raw: sparseOf("9", "1\n9223372036854775807\n2\n", "ab"), err: "not a tar archive"},
	{name: "sparse map that is none", whole: true, raw: sparseOf("9", "x\n", "ab"), err: "not a tar archive"},
	{name: "sparse map without end", whole: true, raw: sparseOf("9", "9", ""), err: "not a tar archive"},
	{name: "sparse map of too many", whole: true, raw: sparseOf("9", "99999999\n0\n0\n", ""), err: "not a tar archive"},
	{name: "sparse content that is missing", whole: true, raw: sparseOf("9", "1\n0\n9\n", "abc"), err: "sparse file references non-existent data"},
	{name: "sparse content that nobody names", whole: true, raw: sparseOf("9", "1\n0\n1\n", "abc"), err: "sparse file contains unreferenced data"},
	{name: "sparse file of another kind", whole: true, raw: extended("abc", "GNU.sparse.major=2", "GNU.sparse.minor=0", "GNU.sparse.realsize=9"), err: "a sparse file of an unknown kind"},
	{name: "sparse file of no kind", whole: true, raw: extended("abc", "GNU.sparse.realsize=9"), err: "a sparse file of an unknown kind"},
	{name: "attribute of the system's", whole: true, raw: extended("1", "SCHILY.xattr.security.selinux=x", "SCHILY.xattr.trusted.overlay.opaque=y", "SCHILY.xattr.system.other=z"), made: "0644 x: 1"},
	{name: "attribute without a name", whole: true, raw: extended("1", "SCHILY.xattr.=x"), made: "0644 x: 1"},
	{name: "attribute with a NUL in its name", whole: true, raw: extended("1", "SCHILY.xattr.user.a\x00b=x"), err: "not a tar archive"},
	{name: "attribute with half a name", whole: true, raw: extended("1", "SCHILY.xattr.user.=x"), err: `its extended attribute "user.": invalid argument`, made: "0644 x: 1"},
	{name: "attribute with a long name", whole: true, raw: extended("1", "SCHILY.xattr.user."+strings.Repeat("a", 251)+"=x"), err: "with a name of 256, at most"},
	{name: "attribute that is large", whole: true, raw: extended("1", "SCHILY.xattr.user.a="+strings.Repeat("a", 64<<10+1)), err: "an extended attribute of 65537 bytes"},
	{name: "attributes that are many", whole: true, raw: extended("1", manyAttrs(20_000, 20)...), err: "extended attributes of more than 524288 bytes"},
	{name: "attributes beyond a header", whole: true, raw: extended("1", manyAttrs(20, 60_000)...), err: "header field too long"},
	{name: "attribute of a link", whole: true, entries: []e{{kind: isSym, name: "l", link: "own", attrs: map[string]string{"user.a": "1"}}}, made: "l -> own"},
}

func manyAttrs(n, size int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("SCHILY.xattr.user.a%d=%s", i, strings.Repeat("v", size)))
	}
	return all
}

func TestHostileArchives(t *testing.T) {
	syscall.Umask(0o022)
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			root, target := canary(t)
			b := c.raw
			if b == nil {
				b = mustArchive(c.entries...)
			}
			to, err := To("/", target)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			if c.whole {
				err = to.Extract(bytes.NewReader(b), Options{})
			} else {
				err = to.Receive(bytes.NewReader(b), "x", Options{})
			}
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\n\x1b\a") {
				t.Errorf("not a clean line: %q", err)
			}
			after := strings.Join(tree(t, target), "\n")
			if !strings.Contains(after, c.made) || strings.Contains(after, ".aegis-cp-") {
				t.Errorf("the target has:\n%s\nwant %q", after, c.made)
			}
			wantCanary(t, root)
		})
	}
}
