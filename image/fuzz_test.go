package image

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/erofs/go-erofs"
)

// seed is a layer with one of everything.
func seed(f *testing.F) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755},
		{Typeflag: tar.TypeReg, Name: "d/f", Mode: 0o4755, Size: 3, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		{Typeflag: tar.TypeLink, Name: "h", Linkname: "d/f"},
		{Typeflag: tar.TypeSymlink, Name: "s", Linkname: "../d"},
		{Typeflag: tar.TypeReg, Name: "s/g", Mode: 0o644},
		{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3},
		{Typeflag: tar.TypeFifo, Name: "p"},
		{Typeflag: tar.TypeReg, Name: "d/.wh.f"},
		{Typeflag: tar.TypeReg, Name: "d/.wh..wh..opq"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		w.Write(make([]byte, h.Size))
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	return buf.Bytes()
}

// FuzzLayer merges two layers of any bytes. What is accepted must make a disk
// that can be read whole and shows nothing of the host.
func FuzzLayer(f *testing.F) {
	layer := seed(f)
	f.Add(layer, layer)
	f.Add(layer[:700], []byte(nil))
	limits := Limits{Files: 1000, Bytes: 1 << 20, Metadata: 1 << 20}.orDefault()
	f.Fuzz(func(t *testing.T, one, two []byte) {
		dir := t.TempDir()
		sp, err := newSpool(dir, limits.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		defer sp.Close()
		tree := newTree(limits)
		for i, stream := range [][]byte{one, two} {
			if tree.apply(bytes.NewReader(stream), i, sp) != nil {
				return
			}
		}
		disk, err := os.Create(filepath.Join(dir, "disk"))
		if err != nil {
			t.Fatal(err)
		}
		defer disk.Close()
		if _, err := writeDisk(context.Background(), disk, tree, sp); err != nil {
			t.Fatalf("layers were accepted, but no disk could be written: %v", err)
		}
		readAll(t, disk, tree)
	})
}

// readAll reads a disk and compares its files with the tree's.
func readAll(t *testing.T, disk *os.File, tr *tree) {
	fsys, err := erofs.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *inode, at string)
	walk = func(n *inode, at string) {
		entries, err := fs.ReadDir(fsys, at)
		if err != nil {
			t.Fatalf("%q: %v", at, err)
		}
		if len(entries) != len(n.children) {
			t.Fatalf("%q has %d entries, expected %d", at, len(entries), len(n.children))
		}
		for _, e := range entries {
			child := n.children[e.Name()]
			if child == nil || child.mode.Type() != e.Type() {
				t.Fatalf("%q in %q: %v, expected %+v", e.Name(), at, e.Type(), child)
			}
			path := filepath.Join(at, e.Name())
			if !fs.ValidPath(path) {
				continue // the reader opens UTF-8 names only
			}
			switch {
			case child.mode.IsDir():
				walk(child.inode, path)
			case child.mode.IsRegular():
				checkFile(t, fsys, path, child.size)
			}
		}
	}
	walk(tr.root, ".")
}

func checkFile(t *testing.T, fsys fs.FS, path string, size int64) {
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); err != nil || n != size {
		t.Fatalf("%q: %d bytes, %v; expected %d", path, n, err, size)
	}
}
