package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// Remove implements Library.
func (s *Local) Remove(ctx context.Context, ref string, inUse []string) error {
	info, err := s.lookupInfo(ctx, ref)
	if err != nil {
		return err
	}
	r, err := parseRef(ref, "")
	if err != nil {
		return err
	}
	if r.name != "" && len(info.Names) > 1 {
		return failure(s.unname(ctx, info.Digest, r.name))
	}
	if r.name != "" && info.Base { // its disk stays whatever its names are
		if err := s.unname(ctx, info.Digest, r.name); err != nil {
			return failure(err)
		}
		return failure(s.collect(ctx))
	}
	if slices.Contains(inUse, info.Digest) {
		return api.Errorf(api.BadState, "image %s is in use: delete the instances first", ref)
	}
	return failure(s.drop(ctx, info.Digest))
}

// lookupInfo is Info without the work of making a disk that was lost.
func (s *Local) lookupInfo(ctx context.Context, ref string) (Info, error) {
	r, err := parseRef(ref, "")
	if err != nil {
		return Info{}, err
	}
	named, err := s.index()
	if err != nil {
		return Info{}, failure(err)
	}
	img := Image{Digest: r.digest}
	if r.digest == "" {
		d, err := s.descriptor(ref)
		if err != nil {
			return Info{}, failure(err)
		}
		img.Digest = string(d.Digest)
	} else if _, err := s.prepared(r.digest); err != nil && !slices.ContainsFunc(named, func(d ocispec.Descriptor) bool { return string(d.Digest) == r.digest }) {
		return Info{}, failure(err)
	}
	info := s.describe(ctx, img, named)
	info.Base = img.Digest == s.baseDigest(ctx)
	return info, nil
}

// unname takes one of several names from an image.
func (s *Local) unname(ctx context.Context, digest, name string) error {
	return s.reindex(ctx, func(all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool {
			return string(d.Digest) == digest && nameOf(d) == name
		}), nil
	})
}

// drop removes an image: its names, then its disk, then its blobs. Killed in
// between, it leaves what Prune removes. A machine that has the disk open
// keeps it.
func (s *Local) drop(ctx context.Context, digest string) error {
	err := s.reindex(ctx, func(all []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		return slices.DeleteFunc(all, func(d ocispec.Descriptor) bool { return string(d.Digest) == digest }), nil
	})
	if err != nil {
		return err
	}
	if err := s.dropDisk(ctx, digest); err != nil {
		return err
	}
	s.log.Info("image removed", "digest", digest)
	return s.collect(ctx)
}

// dropDisk moves the disk aside before it is deleted, so that half of one is
// never found.
func (s *Local) dropDisk(ctx context.Context, digest string) error {
	dir, err := s.imageDir(digest)
	if err != nil {
		return err
	}
	unlock, err := lockFile(ctx, filepath.Join(s.images, ".lock-"+filepath.Base(dir)), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(dir); err != nil {
		return nil // it was lost, or never made
	}
	tmp, err := os.MkdirTemp(s.images, ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	return os.Rename(dir, filepath.Join(tmp, "image"))
}

// collect deletes the blobs that no image refers to, and the beginnings of
// such, unless somebody is at work now: then a later one does.
func (s *Local) collect(ctx context.Context) error {
	unlock, ok, err := tryLockFile(s.lock.Name())
	if err != nil || !ok {
		return err
	}
	defer unlock()
	if err := s.trimPartials(-1); err != nil {
		return err
	}
	used, err := s.usedBlobs(ctx)
	if err != nil {
		s.log.Warn("blobs not collected", "error", err)
		return ctx.Err()
	}
	blobs, err := os.ReadDir(filepath.Join(s.oci, "blobs/sha256"))
	if err != nil {
		return err
	}
	for _, b := range blobs {
		if used["sha256:"+digest.Digest(b.Name())] {
			continue
		}
		if err := os.Remove(filepath.Join(s.oci, "blobs/sha256", b.Name())); err != nil {
			return err
		}
	}
	return nil
}

// usedBlobs are the blobs that images refer to. A manifest that cannot be read
// is an error: what it refers to is not known.
func (s *Local) usedBlobs(ctx context.Context) (map[digest.Digest]bool, error) {
	named, err := s.index()
	if err != nil {
		return nil, err
	}
	used := map[digest.Digest]bool{}
	for _, d := range named {
		if used[d.Digest] {
			continue
		}
		m, err := s.manifest(ctx, d)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", d.Digest, err)
		}
		used[d.Digest], used[m.Config.Digest] = true, true
		for _, l := range m.Layers {
			used[l.Digest] = true
		}
	}
	return used, nil
}

// Prune implements Library.
func (s *Local) Prune(ctx context.Context, inUse []string) ([]Info, error) {
	all, err := s.List(ctx)
	if err != nil {
		return nil, err
	}
	removed := []Info{}
	for _, info := range all {
		if info.Base || slices.Contains(inUse, info.Digest) {
			continue
		}
		if err := s.drop(ctx, info.Digest); err != nil {
			return removed, failure(err)
		}
		removed = append(removed, info)
	}
	return removed, failure(s.collect(ctx))
}
