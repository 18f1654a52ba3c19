package image

import (
	"context"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/cas/dir"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// The index.json of our own layout holds one descriptor for each name of an
// image, and one without a name for an image that has none. It refers to
// manifests only, of our own platform.

func nameOf(d ocispec.Descriptor) string { return d.Annotations[ocispec.AnnotationRefName] }

// index reads the names.
func (s *Local) index() ([]ocispec.Descriptor, error) {
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	idx, err := l.index()
	return idx.Manifests, err
}

// lookup finds the manifest that has a name.
func (s *Local) lookup(name string) (ocispec.Descriptor, error) {
	all, err := s.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range all {
		if nameOf(d) == name {
			return d, nil
		}
	}
	return ocispec.Descriptor{}, api.Errorf(api.NotFound, "image %s is not here: bring it with aegis image pull", name)
}

// reindex changes the names, alone among all processes.
func (s *Local) reindex(ctx context.Context, change func([]ocispec.Descriptor) ([]ocispec.Descriptor, error)) (err error) {
	unlock, err := lockFile(ctx, filepath.Join(s.images, ".lock-names"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	before, err := s.index()
	if err != nil {
		return err
	}
	after, err := change(slices.Clone(before))
	if err != nil || slices.EqualFunc(before, after, same) {
		return err
	}
	// What the index is about to name must be there after a loss of power.
	if err := syncDir(filepath.Join(s.oci, "blobs/sha256")); err != nil {
		return err
	}
	engine, err := dir.Open(s.oci)
	if err != nil {
		return err
	}
	defer func() {
		if closed := engine.Close(); err == nil {
			err = closed
		}
	}()
	idx := ocispec.Index{Manifests: after}
	idx.SchemaVersion = 2
	if err := engine.PutIndex(ctx, idx); err != nil {
		return err
	}
	return syncDir(s.oci)
}

func same(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest && nameOf(a) == nameOf(b) }

// setName gives an image a name, empty for none, and takes it from whichever
// has it. What loses its last name stays until it is removed.
func (s *Local) setName(ctx context.Context, d ocispec.Descriptor, name string) error {
	return s.reindex(ctx, func(all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return rename(all, d, name), nil
	})
}

func rename(all []ocispec.Descriptor, d ocispec.Descriptor, name string) []ocispec.Descriptor {
	d = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	has := func(digest string) bool {
		return slices.ContainsFunc(all, func(o ocispec.Descriptor) bool { return string(o.Digest) == digest })
	}
	if name == "" {
		if !has(string(d.Digest)) {
			all = append(all, d)
		}
		return all
	}
	if slices.ContainsFunc(all, func(o ocispec.Descriptor) bool { return nameOf(o) == name && o.Digest == d.Digest }) {
		return all
	}
	var lost []ocispec.Descriptor
	all = slices.DeleteFunc(all, func(o ocispec.Descriptor) bool {
		if nameOf(o) == name {
			lost = append(lost, o)
		}
		return nameOf(o) == name || nameOf(o) == "" && o.Digest == d.Digest
	})
	for _, o := range lost {
		if !has(string(o.Digest)) {
			all = append(all, ocispec.Descriptor{MediaType: o.MediaType, Digest: o.Digest, Size: o.Size})
		}
	}
	d.Annotations = map[string]string{ocispec.AnnotationRefName: name}
	return append(all, d)
}

// named prepares the image that has a name.
func (s *Local) named(ctx context.Context, name string, p *progress) (Image, error) {
	d, err := s.lookup(name)
	if err != nil {
		return Image{}, err
	}
	return s.rebuilt(ctx, d, p)
}

// rebuilt prepares an image that is kept; its disk may have been lost.
func (s *Local) rebuilt(ctx context.Context, d ocispec.Descriptor, p *progress) (Image, error) {
	if img, err := s.prepared(string(d.Digest)); err == nil {
		return img, nil
	}
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return Image{}, err
	}
	defer l.Close()
	src, err := l.source(ctx, d, s.limits)
	if err != nil {
		return Image{}, err
	}
	return s.make(ctx, src, p)
}

// digest prepares the image with a digest.
func (s *Local) digest(ctx context.Context, digest string, p *progress) (Image, error) {
	img, err := s.prepared(digest)
	if err == nil || !digestPattern.MatchString(digest) {
		return img, err
	}
	all, failed := s.index()
	if failed != nil {
		return Image{}, failed
	}
	for _, d := range all {
		if string(d.Digest) == digest {
			return s.rebuilt(ctx, d, p)
		}
	}
	return img, err
}

// Tag implements Library.
func (s *Local) Tag(ctx context.Context, ref, name string) (Info, error) {
	n, err := registry.Parse(name)
	if err == nil && n.Tag() == "" {
		err = api.Errorf(api.InvalidArgument, "image %s: a name with a digest cannot be given: expected a name and a tag, such as mine:1", name)
	}
	if err != nil {
		return Info{}, err
	}
	release, err := s.use(ctx)
	if err != nil {
		return Info{}, failure(err)
	}
	defer release()
	d, err := s.descriptor(ref)
	if err == nil {
		err = s.setName(ctx, d, n.String())
	}
	if err != nil {
		return Info{}, failure(err)
	}
	return s.Info(ctx, string(d.Digest))
}

// use keeps collect from deleting blobs that have no name yet.
func (s *Local) use(ctx context.Context) (release func(), err error) {
	return lockFile(ctx, s.lock.Name(), unix.LOCK_SH)
}

// descriptor finds the manifest that a name or a digest means, of what is
// kept as an OCI image.
func (s *Local) descriptor(ref string) (ocispec.Descriptor, error) {
	r, err := parseRef(ref, "")
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	switch {
	case r.name != "":
		return s.lookup(r.name)
	case r.digest == "":
		return ocispec.Descriptor{}, api.Errorf(api.InvalidArgument, "image %.200q: expected the name or the digest of an image that is here", ref)
	}
	all, err := s.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, d := range all {
		if string(d.Digest) == r.digest {
			return d, nil
		}
	}
	if _, err := s.prepared(r.digest); err == nil {
		return ocispec.Descriptor{}, api.Errorf(api.BadState, "of image %s there is but the disk, made from a layout on disk: load that layout first, with aegis image load", r.digest)
	}
	return ocispec.Descriptor{}, unknownImage(r.digest)
}
