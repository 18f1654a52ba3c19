package archive

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// dataOf finds the parts of a file that are no holes; without holes, or where
// they cannot be told, there is no answer.
func dataOf(f *os.File, info os.FileInfo) (all []segment, sparse bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	size := info.Size()
	if !ok || st.Blocks*512 >= size {
		return nil, false
	}
	defer f.Seek(0, io.SeekStart)
	for at := int64(0); at < size; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && from >= size {
			break // the rest is a hole
		}
		if err != nil {
			return nil, false
		}
		to, err := f.Seek(from, unix.SEEK_HOLE)
		if err != nil || to <= from || len(all) == maxSegments-1 {
			to = size
		}
		to = min(to, size)
		all, at = append(all, segment{from, to - from}), to
	}
	whole := len(all) == 1 && all[0] == segment{0, size}
	return all, !whole
}
