package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxEntries is how many entries an archive may have: its layers have the
// files.
const maxEntries = 4096

// archive is a tar on disk of which the regular files can be opened. It
// unpacks nothing.
type archive struct {
	file    *os.File
	entries map[string]section
	links   map[string]string // of old docker-archives, which share layers so
}

type section struct{ off, size int64 }

// spoolArchive opens an archive. One that is a pipe or compressed is copied
// to a file in dir that has no name.
func spoolArchive(ctx context.Context, f *os.File, dir string, limit int64) (*archive, error) {
	in := bufio.NewReaderSize(&progressReader{ctx: ctx, r: f}, 64<<10)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unreadable("the archive", err)
	}
	r, err := inflate(in, magic)
	if err != nil {
		return nil, unreadable("the archive", err)
	}
	tmp, err := os.CreateTemp(dir, ".tmp-")
	if err != nil {
		return nil, err
	}
	a := &archive{file: tmp, entries: map[string]section{}, links: map[string]string{}}
	os.Remove(tmp.Name()) // the descriptor is enough, and a kill leaves nothing
	n, err := io.Copy(tmp, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = beyond("the archive has more than %d bytes", limit)
	}
	if err == nil {
		err = a.scan(ctx, n)
	}
	if err != nil {
		a.Close()
		return nil, unreadable("the archive", err)
	}
	return a, nil
}

// inflate undoes a compression of the whole archive.
func inflate(r io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
	}
	return r, nil
}

// scan finds the entries. tar reads no byte ahead, so where it stands after a
// header is where the content begins.
func (a *archive) scan(ctx context.Context, size int64) error {
	r := io.NewSectionReader(a.file, 0, size)
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n >= maxEntries {
			return beyond("has more than %d entries", maxEntries)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		off, err := r.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		if err := a.add(hdr, section{off, hdr.Size}); err != nil {
			return err
		}
	}
}

func (a *archive) add(hdr *tar.Header, s section) error {
	name := path.Clean(strings.TrimPrefix(hdr.Name, "./"))
	if !fs.ValidPath(name) {
		return broken("holds the entry %.200q: expected a path inside", hdr.Name)
	}
	switch hdr.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
	case tar.TypeSymlink:
		a.links[name] = path.Join(path.Dir(name), hdr.Linkname)
		return nil
	case tar.TypeLink:
		a.links[name] = path.Clean(hdr.Linkname)
		return nil
	default:
		return broken("holds the entry %.200q of type %q: expected files", hdr.Name, hdr.Typeflag)
	}
	if _, twice := a.entries[name]; twice {
		return broken("holds the entry %.200q twice", hdr.Name)
	}
	a.entries[name] = s
	return nil
}

// find is a file, or the one that a link leads to.
func (a *archive) find(name string) (section, bool) {
	name = path.Clean(name)
	s, ok := a.entries[name]
	if !ok {
		s, ok = a.entries[a.links[name]]
	}
	return s, ok
}

func (a *archive) open(name string) (io.ReadCloser, int64, error) {
	s, ok := a.find(name)
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, s.off, s.size)), s.size, nil
}

func (a *archive) Close() error { return a.file.Close() }
