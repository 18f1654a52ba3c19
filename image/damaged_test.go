package image_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

func TestDamagedLayoutsAreRefused(t *testing.T) {
	ok := imagetest.Of(entries{file("a", strings.Repeat("content", 1000))})
	for name, test := range map[string]struct {
		damage  func(t *testing.T, dir string, m ocispec.Manifest, d ocispec.Descriptor)
		message string
	}{
		"a changed layer": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, m.Layers[0]))
		}, "layer 1 of 1 is damaged: expected sha256:"},
		"a shorter layer": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			resize(t, imagetest.BlobPath(dir, m.Layers[0]), -1)
		}, "layer 1 of 1 is damaged: expected"},
		"a longer layer": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			resize(t, imagetest.BlobPath(dir, m.Layers[0]), 512)
		}, "layer 1 of 1 is damaged: expected"},
		"a missing layer": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(imagetest.BlobPath(dir, m.Layers[0]))
		}, "layer 1 of 1 is missing"},
		"a layer that is a directory": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(imagetest.BlobPath(dir, m.Layers[0]))
			os.Mkdir(imagetest.BlobPath(dir, m.Layers[0]), 0o700)
		}, "no regular file"},
		"a layer that is a pipe": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(imagetest.BlobPath(dir, m.Layers[0]))
			unix.Mkfifo(imagetest.BlobPath(dir, m.Layers[0]), 0o600)
		}, "no regular file"},
		"a layer that is a link out of the layout": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			path := imagetest.BlobPath(dir, m.Layers[0])
			away := filepath.Join(t.TempDir(), "blob")
			os.Rename(path, away)
			os.Symlink(away, path)
		}, "link out of the layout"},
		"a changed manifest": {func(t *testing.T, dir string, _ ocispec.Manifest, d ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, d))
		}, "manifest is damaged"},
		"a changed configuration": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, m.Config))
		}, "configuration is damaged"},
		"an index that is no JSON": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			os.WriteFile(filepath.Join(dir, "index.json"), []byte("{"), 0o600)
		}, "index.json is no valid JSON document"},
		"no index": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(filepath.Join(dir, "index.json"))
		}, "no index.json"},
		"an index that is a pipe": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(filepath.Join(dir, "index.json"))
			unix.Mkfifo(filepath.Join(dir, "index.json"), 0o600)
		}, "no regular file"},
		"an empty index": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			imagetest.PutIndex(t, dir, ocispec.Index{})
		}, "holds no image for linux/"},
		"a digest that is a path": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].Digest = "sha256:../../../../../../../../../../../../../../../../etc/passwd-aaaaaaa"
			replace(t, dir, m)
		}, "expected sha256: and 64"},
		"a digest without a name": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].Digest = ""
			replace(t, dir, m)
		}, "expected sha256: and 64"},
		"a size that lies": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].Size = -1
			replace(t, dir, m)
		}, "expected -1 bytes"},
		"a media type that nobody knows": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].MediaType = "application/x-iso9660-image"
			replace(t, dir, m)
		}, "media type"},
		"a layer that is not what its type says": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].MediaType = ocispec.MediaTypeImageLayerGzip
			replace(t, dir, m)
		}, "damaged"},
		"a layer that unpacks to something else": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			var c ocispec.Image
			b, _ := os.ReadFile(imagetest.BlobPath(dir, m.Config))
			json.Unmarshal(b, &c)
			c.RootFS.DiffIDs[0] = imagetest.Digest([]byte("else"))
			m.Config = imagetest.PutJSON(t, dir, ocispec.MediaTypeImageConfig, c)
			replace(t, dir, m)
		}, "but the configuration tells of"},
		"a configuration without its layers": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers = append(m.Layers, m.Layers[0])
			replace(t, dir, m)
		}, "has 2 layers, but its configuration tells of 1"},
		"an index that holds itself": {func(t *testing.T, dir string, _ ocispec.Manifest, d ocispec.Descriptor) {
			for range 6 {
				d = imagetest.PutJSON(t, dir, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
			}
			imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
		}, "nested"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m, d := inLayout(t, dir, ok)
			test.damage(t, dir, m, d)
			code := api.InvalidArgument
			if test.message == "nested" {
				code = api.LimitExceeded
			}
			refuse(t, dir, image.Limits{}, code, test.message)
		})
	}
}

// flip changes one byte of a file.
func flip(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func resize(t *testing.T, name string, by int64) {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, st.Size()+by); err != nil {
		t.Fatal(err)
	}
}

// replace makes m the layout's manifest.
func replace(t *testing.T, dir string, m ocispec.Manifest) {
	t.Helper()
	imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{imagetest.PutJSON(t, dir, ocispec.MediaTypeImageManifest, m)}})
}

// A few kilobytes of indexes that name one another a thousand times each must
// not be read a thousand to the fourth times.
func TestAnIndexIsReadOnceHoweverOftenItIsNamed(t *testing.T) {
	dir := t.TempDir()
	d := imagetest.Put(t, dir, imagetest.Of(entries{file("a", "content")}))
	for range 3 {
		many := slices.Repeat([]ocispec.Descriptor{d}, 1000)
		d = imagetest.PutJSON(t, dir, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: many})
	}
	imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
	if _, err := open(t, filepath.Join(t.TempDir(), "store"), image.Options{}).Prepare(t.Context(), dir, nil); err != nil {
		t.Error(err)
	}
}

func TestMoreIndexesThanAnImageNeedsAreRefused(t *testing.T) {
	dir := t.TempDir()
	d := imagetest.Put(t, dir, imagetest.Of(entries{file("a", "content")}))
	var many []ocispec.Descriptor
	for i := range 100 {
		many = append(many, imagetest.PutJSON(t, dir, ocispec.MediaTypeImageIndex, ocispec.Index{
			Manifests: []ocispec.Descriptor{d}, Annotations: map[string]string{"n": strconv.Itoa(i)},
		}))
	}
	imagetest.PutIndex(t, dir, ocispec.Index{Manifests: many})
	refuse(t, dir, image.Limits{}, api.LimitExceeded, "more than 64 indexes")
}

// inLayout puts an image into a layout of its own, to be damaged.
func inLayout(t *testing.T, dir string, img imagetest.Image) (ocispec.Manifest, ocispec.Descriptor) {
	t.Helper()
	d := imagetest.Put(t, dir, img)
	imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
	b, err := os.ReadFile(imagetest.BlobPath(dir, d))
	if err != nil {
		t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m, d
}
