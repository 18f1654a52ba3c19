package image_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// FuzzDocuments puts any bytes in the place of an index, a manifest and a
// configuration. Each is refused as what it is, or makes an image.
func FuzzDocuments(f *testing.F) {
	dir := f.TempDir()
	img := imagetest.Of(entries{file("a", "1")})
	img.Config.Env = []string{"A=b"}
	d := imagetest.Put(f, dir, img)
	manifest, err := os.ReadFile(imagetest.BlobPath(dir, d))
	if err != nil {
		f.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		f.Fatal(err)
	}
	config, err := os.ReadFile(imagetest.BlobPath(dir, m.Config))
	if err != nil {
		f.Fatal(err)
	}
	index, err := json.Marshal(ocispec.Index{Manifests: []ocispec.Descriptor{d}})
	if err != nil {
		f.Fatal(err)
	}
	s := open(f, f.TempDir(), image.Options{})
	f.Add(index, manifest, config)
	f.Fuzz(func(t *testing.T, index, manifest, config []byte) {
		try := func(what string) {
			_, err := s.Prepare(t.Context(), dir, nil)
			if code := api.CodeOf(err); code == api.Internal || code == api.Denied {
				t.Errorf("%s: %q: %v", what, code, err)
			}
		}
		put := func(d ocispec.Descriptor) {
			imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
		}
		put(imagetest.PutBlob(t, dir, ocispec.MediaTypeImageManifest, manifest))
		try("manifest")
		put(imagetest.PutBlob(t, dir, ocispec.MediaTypeImageIndex, index))
		try("nested index")
		changed := m
		changed.Config = imagetest.PutBlob(t, dir, ocispec.MediaTypeImageConfig, config)
		put(imagetest.PutManifest(t, dir, changed, "", ""))
		try("configuration")
		if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o600); err != nil {
			t.Fatal(err)
		}
		try("index")
	})
}
