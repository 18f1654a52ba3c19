package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// partial is the beginning of a blob that is on its way. It outlives its
// process, and is a blob only after all of its bytes were held against the
// digest, which is its name: nothing else has to be remembered of where it
// came from.
type partial struct {
	file *os.File // locked
	hash hash.Hash
	n    int64
}

// openPartial opens what there is of a blob, alone.
func (s *Local) openPartial(ctx context.Context, d ocispec.Descriptor) (*partial, error) {
	path := filepath.Join(s.partial, d.Digest.Encoded())
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := lockOpen(ctx, f, unix.LOCK_EX); err != nil {
			return nil, err
		}
		p := &partial{file: f}
		if still, err := p.still(path); still {
			return p, p.read(ctx, d.Size)
		} else if f.Close(); err != nil {
			return nil, err
		}
	}
}

// still tells whether the file is the one at path: whoever had it locked may
// have finished or deleted it.
func (p *partial) still(path string) (bool, error) {
	now, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	st, err := p.file.Stat()
	return err == nil && os.SameFile(now, st), err
}

// read takes in what is there, if it can be the beginning of a blob of size.
func (p *partial) read(ctx context.Context, size int64) (err error) {
	p.hash = sha256.New()
	if p.n, err = io.Copy(p.hash, &progressReader{ctx: ctx, r: io.LimitReader(p.file, size+1)}); err == nil && p.n > size {
		err = p.restart()
	}
	if err != nil {
		p.close(true)
	}
	return err
}

// restart forgets all bytes.
func (p *partial) restart() error {
	p.hash.Reset()
	p.n = 0
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

// Write appends.
func (p *partial) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.hash.Write(b[:n])
	p.n += int64(n)
	return n, err
}

// check holds all bytes against what the blob is to be.
func (p *partial) check(what string, d ocispec.Descriptor) error {
	if p.n != d.Size {
		return broken("%s is damaged: expected %d bytes, found %d", what, d.Size, p.n)
	}
	if got := "sha256:" + hex.EncodeToString(p.hash.Sum(nil)); got != string(d.Digest) {
		return broken("%s is damaged: expected %s, found %s", what, d.Digest, got)
	}
	return nil
}

// close ends the work. What is empty, or shall not be gone on with, is deleted.
func (p *partial) close(resumable bool) {
	st, err := p.file.Stat()
	if err == nil && (st.Size() == 0 || !resumable) {
		if still, _ := p.still(p.file.Name()); still {
			os.Remove(p.file.Name())
		}
	}
	p.file.Close()
}

// partialAge is how long the beginning of a blob waits for its rest.
const partialAge = 7 * 24 * time.Hour

// trimPartials deletes the oldest beginnings of blobs that nobody works on,
// until what is left is young and of limit bytes at most.
func (s *Local) trimPartials(limit int64) error {
	entries, err := os.ReadDir(s.partial)
	if err != nil {
		return err
	}
	var all []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range all {
		if limit -= info.Size(); limit >= 0 && time.Since(info.ModTime()) < partialAge {
			continue
		}
		if err := s.dropPartial(filepath.Join(s.partial, info.Name())); err != nil {
			return err
		}
	}
	return nil
}

// dropPartial deletes the beginning of a blob, unless somebody works on it.
func (s *Local) dropPartial(path string) error {
	unlock, ok, err := tryLockFile(path)
	if err != nil || !ok {
		return err
	}
	defer unlock()
	s.log.Info("deleting an unfinished download", "path", path)
	return os.Remove(path)
}
