package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/cas/dir"
)

// What was pulled or loaded is kept as an OCI layout of our own. umoci writes
// it: blobs and index go to a temporary file, are synced and renamed, and what
// a killed process left is told from what is at work. go-containerregistry's
// layout would overwrite index.json in place. What can be collected we find
// ourselves, because umoci's gc knows no manifests of Docker's.

// origin is where blobs come from that are not kept yet: an archive or a folder.
// What it says is checked.
type origin interface {
	Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// remoteOrigin is a registry, whose connections break. It may give a blob from
// its beginning instead of the byte that was asked for.
type remoteOrigin interface {
	OpenFrom(ctx context.Context, d ocispec.Descriptor, at int64) (body io.ReadCloser, from int64, err error)
}

// openKept makes the layout where there is none: whole, or not at all.
func (s *Local) openKept() error {
	if _, err := os.Lstat(s.oci); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tmp, err := os.MkdirTemp(s.images, ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.MkdirAll(filepath.Join(tmp, "blobs/sha256"), 0o700); err != nil {
		return err
	}
	for name, text := range map[string]string{
		ocispec.ImageLayoutFile: `{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`,
		ocispec.ImageIndexFile:  `{"schemaVersion":2,"manifests":[]}`,
	} {
		if err := writeSynced(filepath.Join(tmp, name), []byte(text)); err != nil {
			return err
		}
	}
	if err := moveSynced(tmp, s.oci); err != nil && !errors.Is(err, fs.ErrExist) {
		return err // where it exists, another process made it
	}
	return nil
}

// has tells whether a blob is kept whole, by its size.
func (s *Local) has(d ocispec.Descriptor) bool {
	st, err := os.Lstat(s.blobPath(d))
	return err == nil && st.Mode().IsRegular() && st.Size() == d.Size
}

func (s *Local) blobPath(d ocispec.Descriptor) string {
	return filepath.Join(s.oci, "blobs/sha256", d.Digest.Encoded())
}

// put keeps a blob if it is what the descriptor says.
func (s *Local) put(ctx context.Context, what string, d ocispec.Descriptor, r io.Reader) (err error) {
	engine, err := dir.Open(s.oci)
	if err != nil {
		return err
	}
	defer func() {
		if closed := engine.Close(); err == nil {
			err = closed
		}
	}()
	if _, _, err := engine.PutBlob(ctx, &verified{what: what, want: d, r: r, hash: sha256.New()}); err != nil {
		return err
	}
	return nil
}

// verified reads what has the size and the digest of a descriptor, or fails.
type verified struct {
	what string
	want ocispec.Descriptor
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if v.n += int64(n); v.n > v.want.Size {
		return 0, broken("%s is damaged: expected %d bytes, found more", v.what, v.want.Size)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	if v.n < v.want.Size {
		return n, broken("%s is damaged: expected %d bytes, found %d", v.what, v.want.Size, v.n)
	}
	if got := "sha256:" + hex.EncodeToString(v.hash.Sum(nil)); got != string(v.want.Digest) {
		return n, broken("%s is damaged: expected %s, found %s", v.what, v.want.Digest, got)
	}
	return n, io.EOF
}

// intake brings the blobs of one image into the layout, those it has not.
type intake struct {
	store *Local
	p     *progress
	// bring brings one of them.
	bring func(ctx context.Context, what string, d ocispec.Descriptor) error
	// counting is set while layers are brought, which p counts.
	counting bool
}

// fromArchive brings blobs of an archive or a folder.
func (s *Local) fromArchive(o origin, p *progress) *intake {
	in := &intake{store: s, p: p}
	in.bring = func(ctx context.Context, what string, d ocispec.Descriptor) error {
		return in.transfer(ctx, what, d, o)
	}
	return in
}

// fromRegistry brings blobs of a registry.
func (s *Local) fromRegistry(o remoteOrigin, p *progress) *intake {
	in := &intake{store: s, p: p}
	in.bring = func(ctx context.Context, what string, d ocispec.Descriptor) error {
		return in.download(ctx, what, d, o)
	}
	return in
}

// obtain brings one blob. One that an earlier, unfinished pull brought is
// verified instead; two that want the same share the work.
func (in *intake) obtain(ctx context.Context, what string, d ocispec.Descriptor) error {
	unlock, err := in.store.digests.lock(ctx, "blob "+string(d.Digest))
	if err != nil {
		return err
	}
	defer unlock()
	if in.store.sound(ctx, d) {
		in.count(d.Size)
		return nil
	}
	return in.bring(ctx, what, d)
}

func (in *intake) count(n int64) {
	if in.counting {
		in.p.add(n)
	}
}

// transfer copies a blob.
func (in *intake) transfer(ctx context.Context, what string, d ocispec.Descriptor, from origin) error {
	r, err := from.Open(ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer r.Close()
	return in.store.put(ctx, what, d, &progressReader{ctx: ctx, r: r, p: in.counter()})
}

// counter is who is to be told of bytes, if anybody.
func (in *intake) counter() *progress {
	if in.counting {
		return in.p
	}
	return nil
}

// sound tells whether a blob is kept, to its last byte.
func (s *Local) sound(ctx context.Context, d ocispec.Descriptor) bool {
	if !s.has(d) {
		return false
	}
	f, err := os.Open(s.blobPath(d))
	if err != nil {
		return false
	}
	defer f.Close()
	v := &verified{want: d, r: &progressReader{ctx: ctx, r: f}, hash: sha256.New()}
	_, err = io.Copy(io.Discard, v)
	return err == nil
}
