package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The stages of Progress.
const (
	StageResolving   = "resolving"
	StageDownloading = "downloading"
	StageBuilding    = "building"
	StageReady       = "ready"
)

const (
	diskName = "disk.erofs"
	metaName = "meta.json"
)

// Prepare makes sure that the image's disk exists. Callers that ask for one
// image at once share one build.
func (s *Local) Prepare(ctx context.Context, ref string, report func(Progress)) (Image, error) {
	r, err := parseRef(ref, s.base)
	if err != nil {
		return Image{}, err
	}
	p := &progress{report: report}
	img, err := s.resolve(ctx, r, p)
	if err != nil {
		return Image{}, failure(about(r.String(), err))
	}
	img.Ref = ref
	p.stage(StageReady)
	return img, nil
}

// about names the image that an error is about, unless it does so itself.
func about(image string, err error) error {
	if prefix := "image " + image; strings.HasPrefix(err.Error(), prefix) {
		return err
	}
	return fmt.Errorf("image %s: %w", image, err)
}

// String names the reference in messages.
func (r reference) String() string {
	switch {
	case r.digest != "":
		return r.digest
	case r.name != "":
		return r.name
	case r.tag != "":
		return fmt.Sprintf("%q", r.layout+":"+r.tag)
	default:
		return fmt.Sprintf("%q", r.layout)
	}
}

// resolve finds the image and builds its disk where it is missing.
func (s *Local) resolve(ctx context.Context, r reference, p *progress) (Image, error) {
	switch {
	case r.digest != "":
		return s.digest(ctx, r.digest, p)
	case r.name != "":
		return s.named(ctx, r.name, p)
	}
	p.stage(StageResolving)
	l, err := openLayout(r.layout, s.arch)
	if err != nil {
		return Image{}, err
	}
	defer l.Close()
	d, err := l.find(ctx, r.tag)
	if err != nil {
		return Image{}, err
	}
	if img, err := s.prepared(string(d.Digest)); err == nil {
		return img, nil
	}
	src, err := l.source(ctx, d, s.limits)
	if err != nil {
		return Image{}, err
	}
	return s.make(ctx, src, p)
}

// prepared reads what is known of a prepared image; NotFound if it is not.
func (s *Local) prepared(digest string) (Image, error) {
	var img Image
	dir, err := s.imageDir(digest)
	if err != nil {
		return img, err
	}
	f, err := os.Open(filepath.Join(dir, metaName))
	if errors.Is(err, fs.ErrNotExist) {
		return img, unknownImage(digest)
	}
	if err != nil {
		return img, err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxDocument)).Decode(&img); err != nil {
		return img, fmt.Errorf("read %s of %s: %w", metaName, digest, err)
	}
	st, err := os.Stat(filepath.Join(dir, diskName))
	if err != nil {
		return img, err
	}
	if st.Size() != DiskSize {
		return img, fmt.Errorf("the disk of %s has %d bytes, expected %d", digest, st.Size(), int64(DiskSize))
	}
	return img, nil
}

// make builds the image's disk, unless somebody else does so first.
func (s *Local) make(ctx context.Context, src *source, p *progress) (Image, error) {
	unlock, err := s.digests.lock(ctx, src.digest)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	release, err := lockFile(ctx, s.lock.Name(), unix.LOCK_SH)
	if err != nil {
		return Image{}, err
	}
	defer release()
	release, err = lockFile(ctx, filepath.Join(s.images, ".lock-"+src.digest[len("sha256:"):]), unix.LOCK_EX)
	if err != nil {
		return Image{}, err
	}
	defer release()
	if img, err := s.prepared(src.digest); err == nil {
		return img, nil
	}
	select {
	case s.builds <- struct{}{}:
		defer func() { <-s.builds }()
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
	// A build needs memory once; a daemon that lives for months gives it back.
	defer debug.FreeOSMemory()
	return s.build(ctx, src, p)
}

// build makes the image's directory beside its place and moves it there.
func (s *Local) build(ctx context.Context, src *source, p *progress) (Image, error) {
	start := time.Now()
	p.begin(StageBuilding, 2*src.size())
	if err := src.verify(ctx, p); err != nil {
		return Image{}, err
	}
	tmp, err := os.MkdirTemp(s.images, ".tmp-")
	if err != nil {
		return Image{}, err
	}
	defer os.RemoveAll(tmp)
	img := Image{Digest: src.digest, Config: src.config}
	if img.Size, err = src.writeDisk(ctx, tmp, s.limits, p); err != nil {
		return Image{}, err
	}
	meta, err := json.Marshal(img)
	if err != nil {
		return Image{}, err
	}
	if err := writeSynced(filepath.Join(tmp, metaName), meta); err != nil {
		return Image{}, err
	}
	dir, err := s.imageDir(img.Digest)
	if err != nil {
		return Image{}, err
	}
	// What may be there is damaged, or prepared would have found it.
	if err := os.RemoveAll(dir); err != nil {
		return Image{}, err
	}
	if err := moveSynced(tmp, dir); err != nil {
		return Image{}, err
	}
	s.log.Info("image prepared", "digest", img.Digest, "bytes", img.Size, "took", time.Since(start))
	return img, nil
}

// verify reads every layer to its last byte before one of them is used.
func (s *source) verify(ctx context.Context, p *progress) error {
	for i, l := range s.layers {
		if err := s.layout.verify(ctx, s.name(i), l, io.Discard, p); err != nil {
			return err
		}
	}
	return nil
}

// writeDisk merges the layers into the file disk.erofs in dir and returns the
// size of its content.
func (s *source) writeDisk(ctx context.Context, dir string, limits Limits, p *progress) (int64, error) {
	sp, err := newSpool(dir, limits.Bytes)
	if err != nil {
		return 0, err
	}
	defer sp.Close()
	t := newTree(limits)
	for i := range s.layers {
		if err := s.merge(ctx, i, t, sp, p); err != nil {
			return 0, fmt.Errorf("%s: %w", s.name(i), err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, diskName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := writeDisk(ctx, f, t, sp)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", diskName, err)
	}
	// Whatever the umask says: monitors that run as other users open it anew.
	if err := f.Chmod(0o444); err != nil {
		return 0, err
	}
	return size, f.Sync()
}

// merge merges layer i into t, and checks that what it unpacked is what the
// configuration tells.
func (s *source) merge(ctx context.Context, i int, t *tree, sp *spool, p *progress) error {
	l := s.layers[i]
	blob, err := s.layout.blob(ctx, s.name(i), l)
	if err != nil {
		return err
	}
	defer blob.Close()
	r, err := unpack(l.MediaType, &progressReader{ctx: ctx, r: io.LimitReader(blob, l.Size), p: p})
	if err != nil {
		return unreadable("its compressed stream", err)
	}
	defer r.Close()
	allowed := max(64<<20, l.Size*t.limits.Ratio)
	sp.allowed = sp.size + allowed
	h := sha256.New()
	stream := io.TeeReader(&boundedReader{r: r, left: allowed}, h)
	if err := t.apply(stream, i, sp); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return unreadable("its end", err)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != string(s.diffs[i]) {
		return broken("unpacks to %s, but the configuration tells of %.80q", got, s.diffs[i])
	}
	return nil
}

// boundedReader reads no more than left bytes and says so, once it has more.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, beyond("the layer unpacks to too many times its own size")
	}
	return n, err
}
