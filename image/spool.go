package image

import (
	"bufio"
	"io"
	"os"
)

// spool holds the contents of an image's files one after the other, in a
// file without a name, until the disk is written.
type spool struct {
	file  *os.File
	w     *bufio.Writer
	size  int64
	limit int64 // of size
	// allowed is where the layer at work has unpacked to too many times its
	// own size.
	allowed int64
}

func newSpool(dir string, limit int64) (*spool, error) {
	f, err := os.CreateTemp(dir, "spool-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return &spool{file: f, w: bufio.NewWriterSize(f, 1<<20), limit: limit, allowed: limit}, nil
}

// put appends a file's content of the given size and tells where it lies.
func (s *spool) put(r io.Reader, size int64) (off, n int64, err error) {
	off = s.size
	if size > s.limit-off {
		return 0, 0, beyond("the image's files have more than %d bytes", s.limit)
	}
	if size > s.allowed-off {
		return 0, 0, beyond("the layer unpacks to too many times its own size")
	}
	n, err = io.CopyN(s.w, r, size)
	s.size += n
	return off, n, err
}

// open returns a reader of what put stored; flush comes first.
func (s *spool) open(off, n int64) *io.SectionReader { return io.NewSectionReader(s.file, off, n) }

func (s *spool) flush() error { return s.w.Flush() }

func (s *spool) Close() error { return s.file.Close() }
