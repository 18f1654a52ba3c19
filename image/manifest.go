package image

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// source is an image whose documents were verified, and its layers not yet.
type source struct {
	layout *layout
	digest string
	config Config
	layers []ocispec.Descriptor // lowest first
	diffs  []digest.Digest      // of the layers, unpacked
}

// source reads the manifest and the configuration.
func (l *layout) source(ctx context.Context, d ocispec.Descriptor, limits Limits) (*source, error) {
	var m ocispec.Manifest
	if err := l.document(ctx, "manifest", d, &m); err != nil {
		return nil, err
	}
	var c ocispec.Image
	if err := l.document(ctx, "configuration", m.Config, &c); err != nil {
		return nil, err
	}
	if c.OS != "linux" || c.Architecture != l.arch {
		return nil, broken("is for %q/%q, this machine runs linux/%s: use an image of that platform", c.OS, c.Architecture, l.arch)
	}
	if len(m.Layers) > limits.Layers {
		return nil, beyond("has %d layers, at most %d are accepted", len(m.Layers), limits.Layers)
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return nil, broken("has %d layers, but its configuration tells of %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	config, err := parseConfig(c.Config)
	if err != nil {
		return nil, err
	}
	return &source{layout: l, digest: string(d.Digest), config: config, layers: m.Layers, diffs: c.RootFS.DiffIDs}, nil
}

// parseConfig keeps what we honour of an image's configuration.
func parseConfig(c ocispec.ImageConfig) (Config, error) {
	for _, s := range slices.Concat(c.Env, c.Entrypoint, c.Cmd, []string{c.WorkingDir, c.User}) {
		if strings.ContainsRune(s, 0) {
			return Config{}, broken("configuration holds a NUL in %q", s)
		}
	}
	for _, e := range c.Env {
		if i := strings.IndexByte(e, '='); i <= 0 {
			return Config{}, broken("configuration has the variable %q: expected KEY=VALUE", e)
		}
	}
	if c.WorkingDir != "" && !strings.HasPrefix(c.WorkingDir, "/") {
		c.WorkingDir = "/" + c.WorkingDir
	}
	return Config{Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Workdir: c.WorkingDir, User: c.User}, nil
}

// size is the length of all layers as they are stored.
func (s *source) size() int64 {
	var n int64
	for _, l := range s.layers {
		n += l.Size
	}
	return n
}

// name says which layer is meant.
func (s *source) name(i int) string { return fmt.Sprintf("layer %d of %d", i+1, len(s.layers)) }

// maxWindow bounds the memory that a zstd layer makes us use.
const maxWindow = 128 << 20

// unpack returns the tar stream of a layer.
func unpack(mediaType string, r io.Reader) (io.ReadCloser, error) {
	switch {
	case !strings.Contains(mediaType, ".layer.") && !strings.Contains(mediaType, ".rootfs."):
	case strings.HasSuffix(mediaType, ".tar"):
		return io.NopCloser(r), nil
	case strings.HasSuffix(mediaType, ".tar+gzip"), strings.HasSuffix(mediaType, ".tar.gzip"):
		return gzip.NewReader(r)
	case strings.HasSuffix(mediaType, ".tar+zstd"):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, broken("has the media type %q: expected a tar, tar+gzip or tar+zstd layer", mediaType)
}
