package monitor

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// CopySparse copies the data of from to the same places of the empty file
// to, and gives it the same size. It moves the offsets of both, and gives up
// with ctx: somebody may need the guest.
func CopySparse(ctx context.Context, to, from *os.File) error {
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	if err := to.Truncate(0); err != nil {
		return err
	}
	if err := to.Truncate(fi.Size()); err != nil {
		return err
	}
	for end := int64(0); ; {
		data, err := from.Seek(end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return nil // no data behind end
		}
		if err != nil {
			return err
		}
		if end, err = from.Seek(data, unix.SEEK_HOLE); err != nil {
			return err
		}
		if err := copyRange(ctx, to, from, data, end-data); err != nil {
			return err
		}
	}
}

// copyStep is how many bytes are copied before somebody may give up.
const copyStep = 16 << 20

func copyRange(ctx context.Context, to, from *os.File, at, n int64) error {
	if _, err := from.Seek(at, io.SeekStart); err != nil {
		return err
	}
	if _, err := to.Seek(at, io.SeekStart); err != nil {
		return err
	}
	for ; n > 0; n -= copyStep {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.CopyN(to, from, min(n, copyStep)); err != nil {
			return err
		}
	}
	return nil
}
