package image_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/umoci/oci/layer"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// The oracle: what the kernel shows of the disk must be, entry by entry, what
// umoci unpacks as root.

func capability() string {
	return "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
}

func owned(e imagetest.Entry, uid, gid int, mode int64) imagetest.Entry {
	return e.With(func(h *tar.Header) { h.Uid, h.Gid, h.Mode = uid, gid, mode })
}

func TestTheKernelShowsWhatUmociUnpacks(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 20_000)
	var crowd entries
	for i := range 900 {
		crowd = append(crowd, file(fmt.Sprintf("crowd/%04d-%s", i, strings.Repeat("n", i%200)), strings.Repeat("c", 7*i)))
	}
	device := func(kind byte, name string, major, minor int64) imagetest.Entry {
		return imagetest.Entry{Header: tar.Header{Typeflag: kind, Name: name, Mode: 0o640, Devmajor: major, Devminor: minor, ModTime: imagetest.When}}
	}
	for name, layers := range map[string][]entries{
		"owners, modes and times": {{
			owned(dir("./"), 3, 4, 0o750), owned(dir("tmp"), 0, 0, 0o1777), owned(file("su", big), 0, 0, 0o4755),
			owned(file("wall", "w"), 0, 5, 0o2755), owned(file("mail", "m"), 70_000, 4_000_000_000, 0o600),
			owned(dir("shared"), 1000, 1000, 0o2775), file("old", "").With(func(h *tar.Header) { h.ModTime = imagetest.When.AddDate(-45, 0, 0) }),
			owned(symlink("link", "su"), 1000, 1000, 0o777),
		}},
		"attributes and capabilities": {{
			file("ping", big).Xattr("security.capability", capability()), dir("d").Xattr("user.note", "on a directory"),
			file("many", "").Xattr("user.a", strings.Repeat("a", 1000)).Xattr("user.b", "").Xattr("trusted.t", "t").Xattr("user.c", "\x00\xff"),
			file("acl", "x").Xattr("system.posix_acl_access", "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"),
		}},
		"devices and pipes": {{
			device(tar.TypeChar, "null", 1, 3), device(tar.TypeBlock, "disk", 259, 70_000), device(tar.TypeFifo, "pipe", 0, 0), link("null2", "null"),
		}},
		"hard links": {
			{file("a/one", big), link("a/two", "a/one"), link("three", "a/two"), symlink("s", "a"), link("s2", "s"), link("viadir", "s/one")},
			{file("a/one", "new"), link("four", "three"), file("a/.wh.two", "")},
		},
		"layers with whiteouts": {
			{dir("usr/lib"), symlink("lib", "usr/lib"), file("usr/lib/a", "1"), file("usr/lib/b", "1"), file("opt/x/y/z", "1"), dir("var"), file("var/gone", "1")},
			{file("lib/a", "2"), file("lib/c", "2"), file("opt/.wh.x", ""), file("var/.wh..wh..opq", ""), file("var/kept", "2")},
			{file("opt/x", "a file now"), file(".wh.var", ""), dir("usr/lib"), file("usr/lib/d", "3")},
		},
		"sizes around a block": {{
			file("0", ""), file("1", "1"), file("4032", strings.Repeat("x", 4032)), file("4064", strings.Repeat("x", 4064)), file("4095", strings.Repeat("x", 4095)),
			file("4096", strings.Repeat("x", 4096)), file("4097", strings.Repeat("x", 4097)), symlink("long", strings.Repeat("t/", 2000)),
		}},
		"a crowded directory": {crowd},
		"the base image":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var streams [][]byte
			for _, l := range layers {
				streams = append(streams, imagetest.Tar(t, l...))
			}
			if name == "the base image" {
				streams = baseLayer(t)
			}
			img := imagetest.Image{}
			for _, s := range streams {
				img.Layers = append(img.Layers, imagetest.Layer{Stream: s})
			}
			got, want := inventory(t, mount(t, build(t, img))), inventory(t, unpack(t, streams))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// baseLayer is the layer of the real base image.
func baseLayer(t *testing.T) [][]byte {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: the base image is large: run without -short")
	}
	blobs, _ := filepath.Glob("../share/aegisvm/base/blobs/sha256/*")
	for _, b := range blobs {
		if st, err := os.Stat(b); err == nil && st.Size() > 1<<20 {
			data, err := os.ReadFile(b)
			if err != nil {
				t.Fatal(err)
			}
			return [][]byte{data}
		}
	}
	t.Skip("SKIPPED: no base image: run `make base-image`")
	return nil
}

// mount mounts a disk read-only.
func mount(t *testing.T, disk *os.File) string {
	t.Helper()
	needRoot(t)
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "erofs", "-o", "loop,ro", disk.Name(), dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this machine cannot mount EROFS: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// unpack unpacks the layers as umoci does.
func unpack(t *testing.T, layers [][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if err := layer.UnpackLayer(dir, bytes.NewReader(l), nil); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inventory describes every entry below dir in one line: type and mode,
// owner, size, device, time, number of links and the first of them,
// attributes, content.
func inventory(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("%q %o %d:%d", name, st.Mode, st.Uid, st.Gid)
		if !d.IsDir() {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += fmt.Sprintf(" size %d dev %d at %d.%09d links %d of %q", st.Size, st.Rdev, st.Mtim.Sec, st.Mtim.Nsec, st.Nlink, first[st.Ino])
		}
		lines = append(lines, line+attributes(t, p)+" "+data(t, p, d))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func attributes(t *testing.T, p string) string {
	t.Helper()
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, buf)
	if err != nil {
		t.Fatal(err)
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	var all string
	for _, name := range names {
		n, err := unix.Lgetxattr(p, name, buf)
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf(" %s=%q", name, buf[:n])
	}
	return all
}

func data(t *testing.T, p string, d fs.DirEntry) string {
	t.Helper()
	switch d.Type() {
	case 0:
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%x", sha256.Sum256(b))
	case fs.ModeSymlink:
		target, err := os.Readlink(p)
		if err != nil {
			t.Fatal(err)
		}
		return "-> " + target
	default:
		return ""
	}
}

func TestTheDiskPassesFsck(t *testing.T) {
	t.Parallel()
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("SKIPPED: fsck.erofs is not installed: install erofs-utils")
	}
	disk := build(t, imagetest.Of(entries{file("a", strings.Repeat("x", 9000)), link("b", "a"), dir("d"), symlink("d/s", "a")}))
	if out, err := exec.Command(fsck, disk.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestAWritableDiskIsSparseAndPassesFsck(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), image.Options{})
	if err := s.CreateDisk(t.Context(), "d", image.DiskSize); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenDisk(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if used := st.Blocks * 512; used > 1<<20 || st.Size != image.DiskSize {
		t.Errorf("an empty disk of %d bytes uses %d", st.Size, used)
	}
	if out, err := exec.Command("/sbin/e2fsck", "-fn", f.Name()).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
