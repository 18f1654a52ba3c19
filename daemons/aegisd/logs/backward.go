package logs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
)

// extent is a file of a log, as far as it counts.
type extent struct {
	base, end int64
}

// extents tells the files that there are.
func (l *Log) extents() ([]extent, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(); err != nil {
		return nil, err
	}
	all := make([]extent, len(l.bases))
	for i, base := range l.bases {
		all[i] = extent{base: base, end: l.end}
		if i > 0 {
			all[i-1].end = base
		}
	}
	return all, nil
}

// backward visits the lines that are there, the last one first, with the
// offset of each, until visit returns false. Files that a rotation deletes
// meanwhile are passed over. A line may be no record.
func (l *Log) backward(visit func(at int64, line []byte) bool) error {
	all, err := l.extents()
	if err != nil {
		return err
	}
	for _, x := range slices.Backward(all) {
		more, err := l.backwardIn(x, visit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (l *Log) backwardIn(x extent, visit func(at int64, line []byte) bool) (more bool, err error) {
	f, err := os.Open(l.path(x.base))
	if err != nil {
		return true, err
	}
	defer f.Close()
	size := x.end - x.base
	if info, err := f.Stat(); err == nil {
		size = min(size, info.Size()) // where a hole follows
	}
	var tail []byte // the beginning of it is before what was read
	for at := size; at > 0; {
		n := min(at, block)
		buf := make([]byte, n, n+int64(len(tail)))
		if _, err := f.ReadAt(buf, at-n); err != nil {
			return true, err
		}
		at -= n
		buf = append(buf, tail...)
		if tail, more = visitLines(buf, x.base+at, at == 0, visit); !more {
			return false, nil
		}
		if len(tail) > maxRecord {
			tail = nil // no record of ours
		}
	}
	return true, nil
}

// visitLines visits the whole lines of b, the last one first, and returns what
// is before the first one.
func visitLines(b []byte, at int64, whole bool, visit func(at int64, line []byte) bool) (head []byte, more bool) {
	for len(b) > 0 {
		begin := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
		if begin == 0 && !whole {
			return b, true
		}
		if !visit(at+int64(begin), b[begin:]) {
			return nil, false
		}
		b = b[:begin]
	}
	return nil, true
}
