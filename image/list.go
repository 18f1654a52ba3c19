package image

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// List implements Library.
func (s *Local) List(ctx context.Context) ([]Info, error) {
	dirs, err := os.ReadDir(s.images)
	if err != nil {
		return nil, failure(err)
	}
	named, err := s.index()
	if err != nil {
		return nil, failure(err)
	}
	base := s.baseDigest(ctx)
	found := map[string]Image{}
	for _, d := range named {
		found[string(d.Digest)] = Image{Digest: string(d.Digest)} // should its disk be lost
	}
	for _, d := range dirs {
		// What cannot be read is unfinished, or not ours.
		if img, err := s.prepared("sha256:" + d.Name()); err == nil {
			found[img.Digest] = img
		}
	}
	all := []Info{}
	for _, img := range found {
		info := s.describe(ctx, img, named)
		info.Base = img.Digest == base
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(slices.Compare(a.Names, b.Names), cmp.Compare(a.Digest, b.Digest))
	})
	return all, nil
}

// Info implements Library.
func (s *Local) Info(ctx context.Context, ref string) (Info, error) {
	r, err := parseRef(ref, "")
	if err != nil {
		return Info{}, err
	}
	digest := r.digest
	if digest == "" {
		d, err := s.descriptor(ref)
		if err != nil {
			return Info{}, failure(err)
		}
		digest = string(d.Digest)
	}
	img, err := s.digest(ctx, digest, &progress{})
	if err != nil {
		return Info{}, failure(err)
	}
	named, err := s.index()
	if err != nil {
		return Info{}, failure(err)
	}
	info := s.describe(ctx, img, named)
	info.Ref, info.Base = ref, digest == s.baseDigest(ctx)
	return info, nil
}

// describe adds what the index and the blobs tell.
func (s *Local) describe(ctx context.Context, img Image, named []ocispec.Descriptor) Info {
	info := Info{Image: img}
	if dir, err := s.imageDir(img.Digest); err == nil {
		if st, err := os.Stat(filepath.Join(dir, metaName)); err == nil {
			info.Prepared = st.ModTime().UTC()
		}
	}
	kept := false
	for _, d := range named {
		if string(d.Digest) == img.Digest {
			kept = true
			if name := nameOf(d); name != "" {
				info.Names = append(info.Names, name)
			}
		}
	}
	slices.Sort(info.Names)
	if kept {
		info.Packed, info.Layers = s.packed(ctx, img.Digest, named)
	}
	return info
}

// packed tells the size of the blobs of an image and the number of its layers.
func (s *Local) packed(ctx context.Context, digest string, named []ocispec.Descriptor) (size int64, layers int) {
	i := slices.IndexFunc(named, func(d ocispec.Descriptor) bool { return string(d.Digest) == digest })
	m, err := s.manifest(ctx, named[i])
	if err != nil {
		return 0, 0
	}
	size = named[i].Size + m.Config.Size
	for _, l := range m.Layers {
		size += l.Size
	}
	return size, len(m.Layers)
}

// manifest reads the manifest of an image that is kept.
func (s *Local) manifest(ctx context.Context, d ocispec.Descriptor) (m ocispec.Manifest, err error) {
	l, err := openLayout(s.oci, s.arch)
	if err != nil {
		return m, err
	}
	defer l.Close()
	return m, l.document(ctx, "manifest", d, &m)
}

// baseDigest is the digest of the base image, empty where none is installed.
func (s *Local) baseDigest(ctx context.Context) string {
	if s.base == "" {
		return ""
	}
	l, err := openLayout(s.base, s.arch)
	if err != nil {
		return ""
	}
	defer l.Close()
	d, err := l.find(ctx, "")
	if err != nil {
		return ""
	}
	return string(d.Digest)
}
