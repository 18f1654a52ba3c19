package image_test

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

type entries = []imagetest.Entry

var file, dir, symlink, link = imagetest.File, imagetest.Dir, imagetest.Symlink, imagetest.Link

// build prepares an image and opens its disk.
func build(t testing.TB, img imagetest.Image) *os.File {
	t.Helper()
	s := open(t, t.TempDir(), image.Options{})
	got, err := s.Prepare(t.Context(), imagetest.Layout(t, img), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.Open(t.Context(), got.Digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// list describes every file of a disk in one line.
func list(t testing.TB, disk *os.File) []string {
	t.Helper()
	fsys, err := erofs.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	err = fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%s %s %s", p, info.Mode(), content(t, fsys, p, info)), " "))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func content(t testing.TB, fsys fs.FS, p string, info fs.FileInfo) string {
	t.Helper()
	switch info.Mode().Type() {
	case 0:
		b, err := fs.ReadFile(fsys, p)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	case fs.ModeSymlink:
		target, err := fs.ReadLink(fsys, p)
		if err != nil {
			t.Fatal(err)
		}
		return "-> " + target
	default:
		return ""
	}
}

func TestLayersAreMergedAsOverlays(t *testing.T) {
	for name, test := range map[string]struct {
		layers []entries
		want   []string
	}{
		"a later file replaces an earlier one": {
			[]entries{{file("a", "1"), file("b", "1")}, {file("a", "2")}},
			[]string{"a -rw-r--r-- 2", "b -rw-r--r-- 1"},
		},
		"of two entries in one layer the later counts": {
			[]entries{{file("a", "1"), symlink("a", "b"), file("a", "3")}},
			[]string{"a -rw-r--r-- 3"},
		},
		"a whiteout hides a file of a lower layer": {
			[]entries{{file("d/a", "1"), file("d/b", "1")}, {file("d/.wh.a", "")}},
			[]string{"d drwxr-xr-x", "d/b -rw-r--r-- 1"},
		},
		"a whiteout hides a whole directory": {
			[]entries{{file("d/e/a", "1")}, {file(".wh.d", "")}},
			nil,
		},
		"a whiteout does not hide what its own layer has, whatever comes first": {
			[]entries{{file("a", "1"), file("b", "1")}, {file("a", "2"), file(".wh.a", ""), file(".wh.b", ""), file("b", "2")}},
			[]string{"a -rw-r--r-- 2", "b -rw-r--r-- 2"},
		},
		"a directory that is whited out and made anew is empty but for its own layer": {
			[]entries{{file("d/old", "1")}, {dir("d"), file("d/new", "2"), file(".wh.d", "")}},
			[]string{"d drwxr-xr-x", "d/new -rw-r--r-- 2"},
		},
		"an opaque directory hides what is below it and not what its layer has": {
			[]entries{{file("d/a", "1"), file("d/e/b", "1")}, {file("d/.new", "2"), file("d/.wh..wh..opq", ""), file("d/z", "2")}},
			[]string{"d drwxr-xr-x", "d/.new -rw-r--r-- 2", "d/z -rw-r--r-- 2"},
		},
		"whiteouts of nothing change nothing": {
			[]entries{{file("a", "1"), file(".wh.a", ""), file("x/.wh.y", ""), file(".wh..wh.plnk", "")}},
			[]string{"a -rw-r--r-- 1"},
		},
		"a file in the place of a directory removes what that held": {
			[]entries{{file("d/a", "1")}, {file("d", "2")}},
			[]string{"d -rw-r--r-- 2"},
		},
		"a directory in the place of a link does not follow it": {
			[]entries{{dir("usr"), symlink("lib", "usr")}, {dir("lib"), file("lib/a", "2")}},
			[]string{"lib drwxr-xr-x", "lib/a -rw-r--r-- 2", "usr drwxr-xr-x"},
		},
		"a directory entry changes the mode and keeps what is there": {
			[]entries{{dir("d"), file("d/a", "1")}, {dir("d").With(func(h *tar.Header) { h.Mode = 0o777 })}},
			[]string{"d drwxrwxrwx", "d/a -rw-r--r-- 1"},
		},
		"a file below a link goes where the link leads": {
			[]entries{{dir("usr/lib"), symlink("lib", "usr/lib")}, {file("lib/a", "2")}},
			[]string{"lib Lrwxrwxrwx -> usr/lib", "usr drwxr-xr-x", "usr/lib drwxr-xr-x", "usr/lib/a -rw-r--r-- 2"},
		},
		"a link that leads above the root ends at the root of the image": {
			[]entries{{symlink("out", "../../../../etc"), file("out/canary", "1")}, {symlink("abs", "/out"), file("abs/x", "2")}},
			[]string{"abs Lrwxrwxrwx -> /out", "etc drwxr-xr-x", "etc/canary -rw-r--r-- 1", "etc/x -rw-r--r-- 2", "out Lrwxrwxrwx -> ../../../../etc"},
		},
		"an absolute name lies below the root of the image": {
			[]entries{{file("/etc/passwd", "1"), file("//x", "2"), file("./y", "3")}},
			[]string{"etc drwxr-xr-x", "etc/passwd -rw-r--r-- 1", "x -rw-r--r-- 2", "y -rw-r--r-- 3"},
		},
		"a hard link outlives the name it was made from": {
			[]entries{{file("a", "1")}, {link("b", "/a")}, {file(".wh.a", "")}},
			[]string{"b -rw-r--r-- 1"},
		},
		"a replaced name leaves its hard links alone": {
			[]entries{{file("a", "1"), link("b", "a")}, {file("a", "2")}},
			[]string{"a -rw-r--r-- 2", "b -rw-r--r-- 1"},
		},
		"a hard link to itself changes nothing": {
			[]entries{{file("a", "1"), link("a", "a")}},
			[]string{"a -rw-r--r-- 1"},
		},
		"names may be anything but a slash and a NUL": {
			[]entries{{file("\x01\n\xff", "1"), file("наим", "2"), file(`a\b`, "3"), file(strings.Repeat("n", 255), "4")}},
			[]string{"\x01\n\xff -rw-r--r-- 1", `a\b -rw-r--r-- 3`, strings.Repeat("n", 255) + " -rw-r--r-- 4", "наим -rw-r--r-- 2"},
		},
		"devices and pipes are kept": {
			[]entries{{
				{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Mode: 0o666, Devmajor: 1, Devminor: 3}},
				{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "sda", Mode: 0o660, Devmajor: 8}},
				{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}},
			}},
			[]string{"null Dcrw-rw-rw-", "pipe prw-------", "sda Drw-rw----"},
		},
		"an image without layers is an empty root": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := list(t, build(t, imagetest.Of(test.layers...)))
			if diff := cmp.Diff(append([]string{". drwxr-xr-x"}, test.want...), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEveryCompressionGivesTheSameDisk(t *testing.T) {
	t.Parallel()
	content := entries{dir("d"), file("d/big", strings.Repeat("some content ", 50_000)), link("d/again", "d/big")}
	var disks [][]byte
	for _, how := range []string{"", "gzip", "zstd"} {
		f := build(t, imagetest.Image{Layers: []imagetest.Layer{{Entries: content, Compression: how}}})
		b := make([]byte, 2<<20)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, b)
	}
	if !slices.Equal(disks[0], disks[1]) || !slices.Equal(disks[0], disks[2]) {
		t.Error("the disks differ")
	}
}

func TestHardLinksShareOneInode(t *testing.T) {
	t.Parallel()
	var layer entries
	layer = append(layer, file("z/first", "content"), dir("many"))
	for i := range 600 { // several blocks of directory
		layer = append(layer, link(fmt.Sprintf("many/%03d-%s", i, strings.Repeat("x", i%50)), "z/first"))
	}
	layer = append(layer, symlink("s", "t"), link("s2", "s"))
	fsys, err := erofs.Open(build(t, imagetest.Of(layer)))
	if err != nil {
		t.Fatal(err)
	}
	stat := func(p string) *erofs.Stat {
		info, err := fs.Stat(fsys, p)
		if p == "s" || p == "s2" {
			info, err = fs.Lstat(fsys, p)
		}
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*erofs.Stat)
	}
	want := stat("z/first")
	if want.Nlink != 601 {
		t.Errorf("%d links, expected 601", want.Nlink)
	}
	names, err := fs.ReadDir(fsys, "many")
	if err != nil || len(names) != 600 {
		t.Fatalf("%d names, %v", len(names), err)
	}
	for _, n := range names {
		if got := stat("many/" + n.Name()); got.Ino != want.Ino {
			t.Errorf("%s is inode %d, expected %d", n.Name(), got.Ino, want.Ino)
		}
	}
	if stat("s").Ino != stat("s2").Ino {
		t.Error("two names of a symbolic link are two inodes")
	}
}

func TestAttributesAreKeptButThoseOfOverlayfs(t *testing.T) {
	t.Parallel()
	f := build(t, imagetest.Of(entries{
		file("ping", "x").Xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00").Xattr("user.note", "n").
			Xattr("trusted.overlay.redirect", "/etc").Xattr("user.overlay.opaque", "y").Xattr("com.apple.quarantine", "q"),
	}))
	fsys, err := erofs.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	info, err := fs.Stat(fsys, "ping")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00", "user.note": "n"}
	if diff := cmp.Diff(want, info.Sys().(*erofs.Stat).Xattrs); diff != "" {
		t.Error(diff)
	}
}
