package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// Media types of Docker's own manifests, which OCI layouts may hold as well.
const (
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

const (
	maxDocument = 4 << 20 // bytes of an index, manifest or configuration
	maxNesting  = 4       // indexes within indexes
	maxIndexes  = 64      // of one layout
)

// layout reads an OCI image layout.
type layout struct {
	files files
	path  string // for messages
	arch  string
	// obtain, if not nil, brings a blob that is not there yet.
	obtain func(ctx context.Context, what string, d ocispec.Descriptor) error
	// opened are the indexes that were read, each once however often it is
	// named.
	opened map[digest.Digest]bool
}

func openLayout(path, arch string) (*layout, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("no OCI layout: %w", err)
	}
	return &layout{files: folder{root}, path: path, arch: arch}, nil
}

func (l *layout) Close() error { return l.files.Close() }

// files is what a layout consists of.
type files interface {
	// open opens a regular file and tells its size.
	open(name string) (io.ReadCloser, int64, error)
	Close() error
}

// folder is a layout's directory. It opens nothing outside, whatever symbolic
// links there are.
type folder struct{ *os.Root }

// open opens a regular file; a FIFO there does not block.
func (d folder) open(name string) (io.ReadCloser, int64, error) {
	f, err := d.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errno := unix.Errno(0); err != nil && !errors.As(err, &errno) {
		return nil, 0, broken("%s is a link out of the layout: expected a file", name)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = broken("%s is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// index reads index.json, the one file that no digest covers.
func (l *layout) index() (ocispec.Index, error) {
	var idx ocispec.Index
	f, size, err := l.files.open(ocispec.ImageIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return idx, broken("%s has no index.json: expected an OCI image layout", l.path)
	}
	if err != nil {
		return idx, err
	}
	defer f.Close()
	if size > maxDocument {
		return idx, beyond("index.json has %d bytes, at most %d are read", size, maxDocument)
	}
	return idx, decode("index.json", io.LimitReader(f, maxDocument), &idx)
}

// find tells the manifest that tag names, of our platform. It opens indexes
// only, no manifest.
func (l *layout) find(ctx context.Context, tag string) (ocispec.Descriptor, error) {
	idx, err := l.index()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	tagged, err := pick(idx.Manifests, tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	found, err := l.flatten(ctx, tagged, maxNesting)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	switch {
	case len(found) == 0:
		return ocispec.Descriptor{}, broken("holds no image for linux/%s", l.arch)
	case len(found) > 1:
		return ocispec.Descriptor{}, broken("holds %d images for linux/%s: name one, as in oci:%s:TAG with TAG of %s",
			len(found), l.arch, l.path, strings.Join(tags(idx.Manifests), ", "))
	}
	return found[0], nil
}

// pick keeps the manifests with the tag, or all of them.
func pick(all []ocispec.Descriptor, tag string) ([]ocispec.Descriptor, error) {
	if tag == "" {
		return all, nil
	}
	tagged := slices.DeleteFunc(slices.Clone(all), func(d ocispec.Descriptor) bool {
		return d.Annotations[ocispec.AnnotationRefName] != tag
	})
	if len(tagged) == 0 {
		return nil, broken("has no tag %q: expected one of %s", tag, strings.Join(tags(all), ", "))
	}
	return tagged, nil
}

func tags(all []ocispec.Descriptor) []string {
	names := []string{}
	for _, d := range all[:min(len(all), 20)] {
		if t := d.Annotations[ocispec.AnnotationRefName]; t != "" && len(t) < 128 {
			names = append(names, fmt.Sprintf("%q", t))
		}
	}
	return names
}

// flatten opens indexes within indexes and keeps the manifests of our
// platform, each once.
func (l *layout) flatten(ctx context.Context, all []ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	add := func(d ocispec.Descriptor) {
		if !slices.ContainsFunc(found, func(f ocispec.Descriptor) bool { return f.Digest == d.Digest }) {
			found = append(found, d)
		}
	}
	for _, d := range all {
		switch d.MediaType {
		case ocispec.MediaTypeImageManifest, dockerManifest:
			if l.ours(d.Platform) {
				add(d)
			}
		case ocispec.MediaTypeImageIndex, dockerIndex:
			inner, err := l.nested(ctx, d, depth)
			if err != nil {
				return nil, err
			}
			for _, m := range inner {
				add(m)
			}
		}
	}
	return found, nil
}

func (l *layout) nested(ctx context.Context, d ocispec.Descriptor, depth int) ([]ocispec.Descriptor, error) {
	if depth == 0 {
		return nil, beyond("indexes are nested more than %d deep", maxNesting)
	}
	if l.opened[d.Digest] {
		return nil, nil // its manifests are found already
	}
	if len(l.opened) >= maxIndexes {
		return nil, beyond("it has more than %d indexes", maxIndexes)
	}
	if l.opened == nil {
		l.opened = map[digest.Digest]bool{}
	}
	l.opened[d.Digest] = true
	var idx ocispec.Index
	if err := l.document(ctx, "index", d, &idx); err != nil {
		return nil, err
	}
	return l.flatten(ctx, idx.Manifests, depth-1)
}

// ours tells whether a manifest may be for this machine; the configuration
// decides where the index does not say.
func (l *layout) ours(p *ocispec.Platform) bool {
	return p == nil || p.OS == "" || p.OS == "linux" && p.Architecture == l.arch
}

// document reads a whole JSON blob and decodes it after its digest was
// verified.
func (l *layout) document(ctx context.Context, what string, d ocispec.Descriptor, into any) error {
	if d.Size > maxDocument {
		return beyond("%s has %d bytes, at most %d are read", what, d.Size, maxDocument)
	}
	var buf bytes.Buffer
	if err := l.verify(ctx, what, d, &buf, nil); err != nil {
		return err
	}
	return decode(what, &buf, into)
}

// verify reads a blob to its last byte, copies it to w, and compares its size
// and digest with what the descriptor says.
func (l *layout) verify(ctx context.Context, what string, d ocispec.Descriptor, w io.Writer, p *progress) error {
	f, err := l.blob(ctx, what, d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(h, w), &progressReader{ctx: ctx, r: io.LimitReader(f, d.Size), p: p})
	if err != nil {
		return unreadable(what, err)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); n != d.Size || got != string(d.Digest) {
		return broken("%s is damaged: expected %s, found %s", what, d.Digest, got)
	}
	return nil
}

// blob opens a blob whose size is what the descriptor says.
func (l *layout) blob(ctx context.Context, what string, d ocispec.Descriptor) (io.ReadCloser, error) {
	if !digestPattern.MatchString(string(d.Digest)) {
		return nil, broken("%s has the digest %.100q: expected sha256: and 64 hexadecimal digits", what, d.Digest)
	}
	if l.obtain != nil {
		if err := l.obtain(ctx, what, d); err != nil {
			return nil, err
		}
	}
	f, size, err := l.files.open("blobs/sha256/" + d.Digest.Encoded())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken("%s is missing: %s is not among the blobs", what, d.Digest)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if size != d.Size {
		f.Close()
		return nil, broken("%s is damaged: expected %d bytes, found %d", what, d.Size, size)
	}
	return f, nil
}

func decode(what string, r io.Reader, into any) error {
	if err := json.NewDecoder(r).Decode(into); err != nil {
		return broken("%s is no valid JSON document: %w", what, err)
	}
	return nil
}
