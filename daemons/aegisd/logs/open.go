package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const suffix = ".ndjson"

func fileName(base int64) string { return fmt.Sprintf("%020d%s", base, suffix) }

// baseOf reads the name of a file; false for names that are none of ours.
func baseOf(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, suffix)
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, ok && err == nil && base >= 0 && fileName(base) == name
}

// open finds out what there is and cuts off what is not whole; l.mu is held.
func (l *Log) open() error {
	if l.opened {
		return nil
	}
	bases, err := l.files()
	if err != nil {
		return fmt.Errorf("opening a log: %w", err)
	}
	end := int64(0)
	if len(bases) > 0 {
		last := bases[len(bases)-1]
		size, err := repair(l.path(last))
		if err != nil {
			return fmt.Errorf("opening a log: %w", err)
		}
		end = last + size
	}
	l.bases, l.end, l.opened = bases, end, true
	return nil
}

func (l *Log) files() (bases []int64, err error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if base, ok := baseOf(filepath.Base(e.Name())); ok && e.Type().IsRegular() {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}

// repair cuts a file off behind its last newline and tells its length.
func repair(path string) (int64, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	end, err := lastNewline(f, size)
	if err != nil || end == size {
		return end, err
	}
	return end, f.Truncate(end)
}

// lastNewline is the offset behind the last newline before an offset.
func lastNewline(r io.ReaderAt, before int64) (int64, error) {
	buf := make([]byte, block)
	for before > 0 {
		n := min(before, block)
		if _, err := r.ReadAt(buf[:n], before-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return before - n + int64(i) + 1, nil
		}
		before -= n
	}
	return 0, nil
}

// block is how much is read at once.
const block = 64 << 10
