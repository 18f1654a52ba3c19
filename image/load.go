package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// nameAnnotation has the whole name of an image in a layout, where the OCI's
// own annotation often has but the tag.
const nameAnnotation = "io.containerd.image.name"

// maxLoaded is how many images one archive may have.
const maxLoaded = 64

// Load implements Library.
func (s *Local) Load(ctx context.Context, f *os.File, name string, report func(Progress)) ([]Info, error) {
	if name != "" {
		n, err := registry.Parse(name)
		if err == nil && n.Tag() == "" {
			err = api.Errorf(api.InvalidArgument, "image %s: expected a name and a tag, such as mine:1", name)
		}
		if err != nil {
			return nil, err
		}
		name = n.String()
	}
	release, err := s.use(ctx)
	if err != nil {
		return nil, failure(err)
	}
	defer release()
	p := &progress{report: report}
	var digests []string
	err = withStream(ctx, f, func(f *os.File) error {
		digests, err = s.load(ctx, f, name, p)
		return err
	})
	if err != nil {
		return nil, failure(fmt.Errorf("load images: %w", err))
	}
	p.stage(StageReady)
	var all []Info
	for _, d := range digests {
		info, err := s.Info(ctx, d)
		if err != nil {
			return nil, err
		}
		all = append(all, info)
	}
	return all, nil
}

// load keeps all images of an archive and tells their digests.
func (s *Local) load(ctx context.Context, f *os.File, name string, p *progress) ([]string, error) {
	p.stage(StageResolving)
	from, roots, err := s.openArchive(ctx, f)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	switch {
	case len(roots) == 0:
		return nil, broken("the archive holds no image for linux/%s", s.arch)
	case len(roots) > maxLoaded:
		return nil, beyond("the archive names %d images, at most %d are loaded", len(roots), maxLoaded)
	}
	return s.takeAll(ctx, roots, from, name, p)
}

// takeAll keeps images under the name that was asked for, or their own.
func (s *Local) takeAll(ctx context.Context, roots []ocispec.Descriptor, from origin, name string, p *progress) ([]string, error) {
	var digests []string
	for _, root := range roots {
		_, d, err := s.acquire(ctx, root, s.fromArchive(from, p))
		if err != nil {
			return nil, fmt.Errorf("image %.100s: %w", root.Digest, err)
		}
		if !slices.Contains(digests, string(d.Digest)) {
			digests = append(digests, string(d.Digest))
		}
		if name != "" && len(digests) > 1 {
			return nil, api.Errorf(api.InvalidArgument, "the archive holds several images: load it without a name for one")
		}
		if err := s.setName(ctx, d, cmp.Or(name, nameIn(root))); err != nil {
			return nil, err
		}
	}
	return digests, nil
}

// nameIn is the name that an archive gives an image, empty for one that is no
// whole name: a tag alone says nothing of what it is a tag of.
func nameIn(d ocispec.Descriptor) string {
	for _, text := range []string{d.Annotations[nameAnnotation], d.Annotations[ocispec.AnnotationRefName]} {
		if !strings.ContainsAny(text, ":/") {
			continue
		}
		if n, err := registry.Parse(text); err == nil && n.Tag() != "" {
			return n.String()
		}
	}
	return ""
}

// closableOrigin is an origin to be closed.
type closableOrigin interface {
	origin
	io.Closer
}

// openArchive opens what was handed over and tells the images in it.
func (s *Local) openArchive(ctx context.Context, f *os.File) (closableOrigin, []ocispec.Descriptor, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if st.IsDir() {
		l, err := openLayout(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), s.arch)
		if err != nil {
			return nil, nil, err
		}
		l.path = "the directory"
		return layoutImages(l)
	}
	a, err := spoolArchive(ctx, f, s.images, s.limits.Packed)
	if err != nil {
		return nil, nil, err
	}
	if _, ok := a.find(ocispec.ImageIndexFile); ok {
		return layoutImages(&layout{files: a, path: "the archive", arch: s.arch})
	}
	if _, ok := a.find(dockerManifestName); !ok {
		a.Close()
		return nil, nil, broken("no images: expected index.json of an OCI layout or manifest.json of docker save")
	}
	docker := &dockerArchive{
		archive: a, limits: s.limits, blobs: map[digest.Digest]string{}, made: map[digest.Digest][]byte{},
		layers: map[string]ocispec.Descriptor{},
	}
	roots, err := docker.images(ctx)
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return docker, roots, nil
}

// layoutImages are the images of a layout that may be for us.
func layoutImages(l *layout) (closableOrigin, []ocispec.Descriptor, error) {
	idx, err := l.index()
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	roots := slices.DeleteFunc(idx.Manifests, func(d ocispec.Descriptor) bool { return !l.ours(d.Platform) })
	return layoutOrigin{l}, roots, nil
}

// layoutOrigin is another layout as an origin.
type layoutOrigin struct{ *layout }

// Open implements origin.
func (o layoutOrigin) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	r, _, err := o.files.open("blobs/sha256/" + d.Digest.Encoded())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken("%s is not among the blobs", d.Digest)
	}
	return r, err
}
