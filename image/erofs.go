package image

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/erofs/go-erofs"
)

// writeDisk writes the tree to f as an EROFS image, pads it to DiskSize, and
// returns the size of its content. The same tree makes the same bytes.
func writeDisk(ctx context.Context, f *os.File, t *tree, sp *spool) (int64, error) {
	if err := sp.flush(); err != nil {
		return 0, err
	}
	aliases := link(t.root, ".")
	out := &diskWriter{ctx: ctx, file: f, w: bufio.NewWriterSize(f, 1<<20)}
	w := erofs.Create(out, erofs.WithBuildTime(0, 0))
	if err := w.CopyFrom(treeFS{t.root, sp}); err != nil {
		return 0, err
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	if err := out.w.Flush(); err != nil {
		return 0, err
	}
	if err := patchLinks(f, t.root, aliases); err != nil {
		return 0, fmt.Errorf("join hard links: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if st.Size() > DiskSize {
		return 0, beyond("the image's disk has %d bytes, at most %d are possible", st.Size(), int64(DiskSize))
	}
	return st.Size(), f.Truncate(DiskSize)
}

// diskWriter buffers the writes of go-erofs and ends them with the context.
type diskWriter struct {
	ctx  context.Context
	file *os.File
	w    *bufio.Writer
}

func (d *diskWriter) Write(b []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	return d.w.Write(b)
}

func (d *diskWriter) Seek(offset int64, whence int) (int64, error) {
	if err := d.w.Flush(); err != nil {
		return 0, err
	}
	return d.file.Seek(offset, whence)
}

var _ io.WriteSeeker = (*diskWriter)(nil)
