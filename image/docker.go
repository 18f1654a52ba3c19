package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerManifestName is the table of contents of what docker save wrote
// before it wrote OCI layouts.
const dockerManifestName = "manifest.json"

// dockerArchive shows a docker-archive as an origin of OCI blobs. The
// library's reader of such archives follows links for ever, so only its types
// are used.
type dockerArchive struct {
	*archive
	limits Limits
	blobs  map[digest.Digest]string // name of the entry
	made   map[digest.Digest][]byte
	layers map[string]ocispec.Descriptor // by name of the entry
}

// images makes a manifest for each image, which gets its names as
// annotations.
func (a *dockerArchive) images(ctx context.Context) ([]ocispec.Descriptor, error) {
	var contents tarball.Manifest
	b, err := a.read(dockerManifestName)
	if err != nil {
		return nil, err
	}
	if err := decode(dockerManifestName, bytes.NewReader(b), &contents); err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, img := range contents {
		d, err := a.image(ctx, img)
		if err != nil {
			return nil, err
		}
		if len(img.RepoTags) == 0 {
			all = append(all, d)
		}
		for _, name := range img.RepoTags {
			d.Annotations = map[string]string{nameAnnotation: name}
			all = append(all, d)
		}
	}
	return all, nil
}

func (a *dockerArchive) image(ctx context.Context, img tarball.Descriptor) (ocispec.Descriptor, error) {
	config, err := a.read(img.Config)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(img.Layers) > a.limits.Layers {
		return ocispec.Descriptor{}, beyond("has %d layers, at most %d are accepted", len(img.Layers), a.limits.Layers)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: a.make(ocispec.MediaTypeImageConfig, config), Layers: []ocispec.Descriptor{},
	}
	for _, name := range img.Layers {
		l, err := a.layer(ctx, name)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		m.Layers = append(m.Layers, l)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return a.make(ocispec.MediaTypeImageManifest, b), nil
}

// read reads a document of the archive.
func (a *dockerArchive) read(name string) ([]byte, error) {
	r, size, err := a.open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken("the archive has no %.200q, which its %s names", name, dockerManifestName)
	}
	if err != nil {
		return nil, err
	}
	if size > maxDocument {
		return nil, beyond("%.200q has %d bytes, at most %d are read", name, size, maxDocument)
	}
	return io.ReadAll(r)
}

func (a *dockerArchive) make(mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	a.made[d.Digest] = b
	return d
}

// layer describes a layer, which is hashed once.
func (a *dockerArchive) layer(ctx context.Context, name string) (ocispec.Descriptor, error) {
	if l, known := a.layers[name]; known {
		return l, nil
	}
	r, size, err := a.open(name)
	if err != nil {
		return ocispec.Descriptor{}, broken("the archive has no layer %.200q, which its %s names", name, dockerManifestName)
	}
	h, magic := sha256.New(), new(head)
	if _, err := io.Copy(io.MultiWriter(h, magic), &progressReader{ctx: ctx, r: r}); err != nil {
		return ocispec.Descriptor{}, err
	}
	l := ocispec.Descriptor{
		MediaType: layerType(magic.b), Size: size,
		Digest: digest.Digest("sha256:" + hex.EncodeToString(h.Sum(nil))),
	}
	a.blobs[l.Digest], a.layers[name] = name, l
	return l, nil
}

// head keeps the first bytes of what is written.
type head struct{ b []byte }

func (h *head) Write(p []byte) (int, error) {
	h.b = append(h.b, p[:min(len(p), 4-len(h.b))]...)
	return len(p), nil
}

func layerType(magic []byte) string {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return ocispec.MediaTypeImageLayerGzip
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ocispec.MediaTypeImageLayerZstd
	default:
		return ocispec.MediaTypeImageLayer
	}
}

// Open implements origin.
func (a *dockerArchive) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if b, ok := a.made[d.Digest]; ok {
		return io.NopCloser(bytes.NewReader(b)), nil
	}
	r, _, err := a.open(a.blobs[d.Digest])
	return r, err
}
