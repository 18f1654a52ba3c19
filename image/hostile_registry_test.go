package image_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// openAt opens the store below parent, which may speak to r.
func openAt(t *testing.T, parent string, r *imagetest.Registry) *image.Local {
	t.Helper()
	return open(t, filepath.Join(parent, "store"), image.Options{Registry: registry.Options{Config: r.Config(t)}})
}

func TestLyingRegistriesAreRefused(t *testing.T) {
	img := imagetest.Of(entries{file("a", strings.Repeat("content", 1000))}, entries{file("b", "")})
	change := func(f func(m *ocispec.Manifest)) func(*testing.T, string, ocispec.Manifest, ocispec.Descriptor) {
		return func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			f(&m)
			replace(t, dir, m)
		}
	}
	for name, test := range map[string]struct {
		damage  func(t *testing.T, dir string, m ocispec.Manifest, d ocispec.Descriptor)
		code    api.Code
		message string
	}{
		"a layer of other content": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, m.Layers[0]))
		}, api.InvalidArgument, "layer 1 of 2 is damaged: expected sha256:"},
		"a layer that is shorter": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			resize(t, imagetest.BlobPath(dir, m.Layers[0]), -1)
		}, api.InvalidArgument, "layer 1 of 2 is damaged: expected 8704 bytes, found 8703"},
		"a layer that is longer": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			resize(t, imagetest.BlobPath(dir, m.Layers[0]), 1<<20)
		}, api.InvalidArgument, "found more"},
		"a layer that is missing": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			os.Remove(imagetest.BlobPath(dir, m.Layers[1]))
		}, api.NotFound, "layer 2 of 2"},
		"a manifest of other content": {func(t *testing.T, dir string, _ ocispec.Manifest, d ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, d))
		}, api.InvalidArgument, "something else"},
		"a configuration of other content": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			flip(t, imagetest.BlobPath(dir, m.Config))
		}, api.InvalidArgument, "configuration is damaged: expected sha256:"},
		"a size that is too small": {change(func(m *ocispec.Manifest) { m.Layers[0].Size-- }), api.InvalidArgument, "found more"},
		"a size that is too large": {change(func(m *ocispec.Manifest) { m.Layers[0].Size++ }), api.InvalidArgument, "damaged"},
		"a size below zero":        {change(func(m *ocispec.Manifest) { m.Layers[0].Size = -1 }), api.InvalidArgument, "has -1 bytes"},
		"sizes that overflow": {change(func(m *ocispec.Manifest) {
			m.Layers[0].Size, m.Layers[1].Size = 1<<63-1, 1<<63-1
		}), api.LimitExceeded, "layers of more than"},
		"a configuration without end": {change(func(m *ocispec.Manifest) { m.Config.Size = 1 << 40 }), api.LimitExceeded, "configuration has"},
		"a digest that is a path": {change(func(m *ocispec.Manifest) {
			m.Layers[0].Digest = "sha256:../../../../../../../../../../../../../../../../etc/passwd-aaaaaaa"
		}), api.InvalidArgument, "expected sha256: and 64"},
		"a digest of another kind": {change(func(m *ocispec.Manifest) { m.Layers[0].Digest = digest.SHA512.FromString("x") }), api.InvalidArgument, "expected sha256: and 64"},
		"a configuration whose digest is a path": {change(func(m *ocispec.Manifest) {
			m.Config.Digest = "sha256:/../../../../canary"
		}), api.InvalidArgument, "expected sha256: and 64"},
		"a layer that unpacks to something else": {func(t *testing.T, dir string, m ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0], m.Layers[1] = m.Layers[1], m.Layers[0]
			replace(t, dir, m)
		}, api.InvalidArgument, "but the configuration tells of"},
		"an index without end": {func(t *testing.T, dir string, _ ocispec.Manifest, d ocispec.Descriptor) {
			for range 6 {
				d = imagetest.PutJSON(t, dir, ocispec.MediaTypeImageIndex, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
			}
			imagetest.PutIndex(t, dir, ocispec.Index{Manifests: []ocispec.Descriptor{d}})
		}, api.LimitExceeded, "nested"},
		"an index of nothing": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			imagetest.PutIndex(t, dir, ocispec.Index{})
		}, api.InvalidArgument, "holds no image"},
		"a tag that is no JSON": {func(t *testing.T, dir string, _ ocispec.Manifest, _ ocispec.Descriptor) {
			os.WriteFile(filepath.Join(dir, "index.json"), []byte("\x1b[31m{"), 0o600)
		}, api.InvalidArgument, "no valid JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			m, d := inLayout(t, dir, img)
			test.damage(t, dir, m, d)
			refusePulled(t, dir, image.Limits{}, test.code, test.message)
		})
	}
}
