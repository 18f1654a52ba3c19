package image

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image/registry"
)

// Options say where a Local store finds things and how much an image may ask
// of it. Zero values mean the defaults.
type Options struct {
	// Base is the OCI layout of the base image, share/aegisvm/base.
	Base string
	// Limits bound what one image may need.
	Limits Limits
	// Log receives what nobody asked for; the default discards it.
	Log *slog.Logger
	// Registry says how to speak to registries.
	Registry registry.Options
}

// Limits bound what the build of one image's disk may use; beyond them
// Prepare answers LimitExceeded.
type Limits struct {
	// Layers is the number of layers, default 128.
	Layers int
	// Files is the number of entries of all layers, default 300,000; each
	// needs about 2.7 KB of memory while building.
	Files int
	// Bytes is the size of all files of all layers, default 12 GiB.
	Bytes int64
	// Metadata is the size of all names, link targets and extended
	// attributes, which are held in memory while building; default 128 MiB.
	Metadata int64
	// Ratio is how many times larger than itself a layer may unpack,
	// default 200; it applies to what is larger than 64 MiB unpacked.
	Ratio int64
	// Packed is the size of all layers as they are stored and downloaded, and
	// of an archive that is loaded; default 8 GiB.
	Packed int64
}

func (l Limits) orDefault() Limits {
	return Limits{
		Layers:   cmp.Or(l.Layers, 128),
		Files:    cmp.Or(l.Files, 300_000),
		Bytes:    cmp.Or(l.Bytes, 12<<30),
		Metadata: cmp.Or(l.Metadata, 128<<20),
		Ratio:    cmp.Or(l.Ratio, 200),
		Packed:   cmp.Or(l.Packed, 8<<30),
	}
}

// maxBuilds is how many images are built at once: a build keeps a processor
// busy and needs memory for every name of its image.
const maxBuilds = 1

// Local is the Store that keeps images and disks in a directory:
//
//	images/<sha256>/disk.erofs  the disk of a prepared image
//	images/<sha256>/meta.json   its Image
//	oci/                        an OCI layout: what was pulled or loaded, its
//	                            index.json with the names
//	partial/<sha256>            the beginning of a blob that is on its way
//	disks/<id>                  the writable disks
//	disks/.template-*           the empty ext4 that they are copies of
//
// Names that begin with ".tmp-" are unfinished and are deleted by the next
// Open; a file under any other name, but those of partial, is whole. Several processes may share
// the directory.
type Local struct {
	images, disks string
	oci, partial  string
	base          string
	arch          string
	limits        Limits
	log           *slog.Logger
	lock          *os.File // shared by whoever makes something, exclusive to sweep
	digests       keyedLock
	template      keyedLock
	builds        chan struct{}
	registry      *registry.Client
	mke2fs        []string
}

var _ Store = (*Local)(nil)

// Open opens the store in dir, makes it where there is none, and deletes what
// a killed process left unfinished.
func Open(dir string, opts Options) (*Local, error) {
	s := &Local{
		images: filepath.Join(dir, "images"),
		disks:  filepath.Join(dir, "disks"),
		oci:    filepath.Join(dir, "oci"),

		partial: filepath.Join(dir, "partial"),
		base:    opts.Base,
		arch:    runtime.GOARCH,
		limits:  opts.Limits.orDefault(),
		log:     cmp.Or(opts.Log, slog.New(slog.DiscardHandler)).With("component", "image"),
		builds:  make(chan struct{}, maxBuilds),
		mke2fs:  mke2fsPaths,

		registry: registry.New(opts.Registry),
	}
	for _, d := range []string{s.images, s.disks, s.partial} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, failure(fmt.Errorf("open image store: %w", err))
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failure(fmt.Errorf("open image store: %w", err))
	}
	s.lock = lock
	if err = s.openKept(); err == nil {
		err = s.sweep()
	}
	if err != nil {
		lock.Close()
		return nil, failure(fmt.Errorf("open image store: %w", err))
	}
	return s, nil
}

// Close releases the store; what it keeps stays.
func (s *Local) Close() error {
	s.registry.Close()
	return s.lock.Close()
}

// sweep deletes unfinished work, unless another process is at work now: then
// it is left to a later Open.
func (s *Local) sweep() error {
	unlock, ok, err := tryExclusive(s.lock)
	if err != nil || !ok {
		return err
	}
	defer unlock()
	for _, pattern := range []string{s.images + "/.tmp-*", s.disks + "/.tmp-*", s.oci + "/.umoci-*"} {
		stale, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range stale {
			s.log.Info("deleting unfinished work", "path", name)
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return s.trimPartials(s.limits.Packed)
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// imageDir is the directory of the image with the digest.
func (s *Local) imageDir(digest string) (string, error) {
	if !digestPattern.MatchString(digest) {
		return "", api.Errorf(api.InvalidArgument, "image digest %q: expected sha256: and 64 hexadecimal digits", digest)
	}
	return filepath.Join(s.images, digest[len("sha256:"):]), nil
}

// Open opens the disk of a prepared image read-only.
func (s *Local) Open(_ context.Context, digest string) (*os.File, error) {
	dir, err := s.imageDir(digest)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(dir, diskName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownImage(digest)
	}
	return f, failure(err)
}

func unknownImage(digest string) error {
	return api.Errorf(api.NotFound, "image %s is not here: give its name, or the path of its OCI layout, instead", digest)
}
