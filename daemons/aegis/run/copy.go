package run

import (
	"errors"
	"io"
	"os"
)

// bufferSize is more than a unix socket holds by default, so that one read
// empties it.
const bufferSize = 256 << 10

// readError marks a failure of the source, so that it is not taken for one of
// the destination.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// copyStream copies src to dst until src ends. A failure to read is a
// readError.
func copyStream(dst, src *os.File) error {
	_, err := copyCounted(dst, src)
	return err
}

// copyCounted is copyStream that tells how many bytes came. Where one end is
// a pipe the kernel moves them, which takes a third of the processor time of
// reading and writing them.
func copyCounted(dst, src *os.File) (int64, error) {
	if n, done, err := splice(dst, src); done {
		return n, err
	}
	return copyBuffered(dst, src)
}

func copyBuffered(dst, src *os.File) (copied int64, err error) {
	buf := make([]byte, bufferSize)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return copied, err
			}
			copied += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF):
			return copied, nil
		case err != nil:
			return copied, readError{err}
		}
	}
}
