package image

import (
	"archive/tar"
	"bytes"
	"testing"
)

// layerOf is a layer of empty files and directories by these names.
func layerOf(t *testing.T, names ...string) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// What is put below a directory behind the back of its layer shows which
// directories a whiteout looks at again.
func TestAWhiteoutLooksAtADirectoryOnceForALayer(t *testing.T) {
	sp, err := newSpool(t.TempDir(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer sp.Close()
	tr := newTree(Limits{}.orDefault())
	apply := func(layer int, names ...string) {
		t.Helper()
		if err := tr.apply(layerOf(t, names...), layer, sp); err != nil {
			t.Fatal(err)
		}
	}
	d := func() *inode { return tr.root.children["d"].inode }
	e := func() *inode { return d().children["e"].inode }
	apply(0, "d/old", "d/e/old")
	apply(1, "d/e/", "d/.wh..wh..opq")
	if d().children["old"] != nil || e().children["old"] != nil {
		t.Fatal("what lay below is not hidden")
	}
	d().children["marker"] = &entry{&inode{}, 0}
	e().children["marker"] = &entry{&inode{}, 0}
	apply(1, "d/.wh..wh..opq", "d/e/.wh..wh..opq", ".wh.d", "d/", "d/e/", "d/.wh..wh..opq", ".wh..wh..opq")
	if d().children["marker"] == nil || e().children["marker"] == nil {
		t.Error("a directory was looked at twice for one layer")
	}
	apply(2, "d/e/new", "d/.wh..wh..opq")
	if d().children["marker"] != nil || e().children["marker"] != nil || e().children["new"] == nil {
		t.Error("the next layer hides nothing, or itself")
	}
}
