package archive

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// FuzzUnpack unpacks anything: whatever it is, nothing beside the target
// changes, nothing but files, folders and links is made, and what is said of it
// is one clean line.
func FuzzUnpack(f *testing.F) {
	for _, c := range hostile {
		b := c.raw
		if b == nil {
			b = mustArchive(c.entries...)
		}
		if len(b) < 64<<10 { // larger ones take the fuzzer's time for nothing
			f.Add(b, c.whole)
		}
	}
	f.Add(mustArchive(e{kind: isDir, name: "x/", mode: 0o755}, e{kind: isFile, name: "x/f", data: "1"}, e{kind: isHard, name: "x/g", link: "x/f"}), false)
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		root, target := canary(t)
		to, err := To("/", target)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if whole {
			err = to.Extract(bytes.NewReader(b), Options{})
		} else {
			err = to.Receive(bytes.NewReader(b), "x", Options{})
		}
		if err != nil && strings.ContainsFunc(err.Error(), unicode.IsControl) {
			t.Errorf("not a clean line: %q", err)
		}
		t.Cleanup(func() { openUp(t, target) }) // for the removal by others than root
		openUp(t, target)
		wantCanary(t, root)
		if whole {
			return
		}
		names, err := os.ReadDir(target)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if !slices.Contains([]string{"own", "dir", "out", "in", "abs", "tofile", "x"}, n.Name()) {
				t.Errorf("made %q, which nobody asked for", n.Name())
			}
		}
	})
}

// openUp lets everything be read, and wants nothing special to be there.
func openUp(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o755)
		case !d.Type().IsRegular() && d.Type() != fs.ModeSymlink:
			return errors.New(path + " is " + d.Type().String())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
