package image_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// FuzzArchive loads any bytes. They are refused as what they are, or make
// images that can be saved and loaded again.
func FuzzArchive(f *testing.F) {
	layout := imagetest.Layout(f, imagetest.Of(entries{file("a", "1")}))
	f.Add(imagetest.LayoutTar(f, layout))
	f.Add(imagetest.Tar(f, file("manifest.json", `[{"Config":"c","RepoTags":["x:1"],"Layers":["l"]}]`), file("c", "{}"), symlink("l", "c")))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	s := open(f, f.TempDir(), image.Options{Limits: image.Limits{Packed: 1 << 20, Bytes: 1 << 20, Files: 1000}})
	path := filepath.Join(f.TempDir(), "archive")
	f.Fuzz(func(t *testing.T, archive []byte) {
		if err := os.WriteFile(path, archive, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		all, err := s.Load(t.Context(), in, "", nil)
		if code := api.CodeOf(err); code == api.Internal || code == api.Denied {
			t.Fatalf("%q: %v", code, err)
		}
		for _, info := range all {
			checkAgain(t, s, info)
		}
		if _, err := s.Prune(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	})
}

// checkAgain saves an image and loads what was saved.
func checkAgain(t *testing.T, s *image.Local, info image.Info) {
	out, err := os.CreateTemp(t.TempDir(), "saved")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := s.Save(t.Context(), []string{info.Digest}, out); err != nil {
		t.Fatalf("loaded, but not saved: %v", err)
	}
	if _, err := out.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	again, err := s.Load(t.Context(), out, "", nil)
	if err != nil || len(again) != 1 || again[0].Digest != info.Digest {
		t.Fatalf("saved, but loaded as %+v, %v", again, err)
	}
}
