package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/xfeldman/aegisvm/api"
)

// entry is a record with the offset behind it. A note is no record of the log
// but what the reader has to say.
type entry struct {
	Record
	next int64
	note bool
}

// reader reads a log forward from an offset, by one goroutine.
type reader struct {
	log  *Log
	at   int64
	base int64    // of file
	file *os.File // the one that at is in; kept open while others delete it
	buf  []byte
	// follower is nil where this is none.
	follower *follower
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}

// state is what a reader has to know of its log at one instant.
type state struct {
	bases   []int64
	end     int64
	changed <-chan struct{}
	over    error
}

func (l *Log) state(r *reader) (state, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.follower != nil {
		l.isAt(r.follower, r.at)
	}
	s := state{changed: l.changed, over: l.over}
	if l.over == nil {
		if err := l.open(); err != nil {
			return s, err
		}
	}
	s.bases, s.end = slices.Clone(l.bases), l.end
	return s, nil
}

// next returns the next records, none where there are none yet; changed is
// closed when there may be more.
func (r *reader) next() (entries []entry, changed <-chan struct{}, err error) {
	s, err := r.log.state(r)
	if err != nil {
		return nil, nil, err
	}
	r.at = min(r.at, s.end) // a cursor of another log
	limit, skipped, err := r.place(s)
	switch {
	case errors.Is(err, fs.ErrNotExist) && s.over == nil:
		r.log.lookAgain(s) // a rotation deleted it just now
		return nil, closed, nil
	case errors.Is(err, fs.ErrNotExist), err == nil && limit+skipped == 0 && s.over != nil:
		return nil, nil, s.over
	case err != nil:
		return nil, nil, fmt.Errorf("reading a log: %w", err)
	case skipped > 0:
		gap := notice("[aegis] %d bytes of the log were deleted before they were read: it is kept to %d files of %d bytes", skipped, r.log.config.Files, r.log.config.FileSize)
		return []entry{{gap, r.at, true}}, s.changed, nil
	case limit == 0:
		return nil, s.changed, nil
	}
	entries, err = r.read(limit)
	return entries, s.changed, err
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// lookAgain makes the log find out what files there are, unless it knows of a
// change already: somebody else has deleted one then.
func (l *Log) lookAgain(s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Equal(l.bases, s.bases) {
		l.rest()
		l.opened = false
	}
}

// place opens the file that goes on at r.at, and tells how many bytes of it
// there are from there. skipped are those that are there no more.
func (r *reader) place(s state) (limit, skipped int64, err error) {
	for {
		if r.file != nil {
			if limit, err = r.left(s); limit > 0 || err != nil {
				return limit, 0, err
			}
		}
		base, ok := r.following(s.bases)
		if !ok {
			return 0, 0, nil
		}
		f, err := os.Open(r.log.path(base))
		if err != nil {
			return 0, 0, err
		}
		r.close()
		r.file, r.base = f, base
		if skipped = max(base-r.at, 0); skipped > 0 {
			r.at = base
			return 0, skipped, nil
		}
	}
}

// following is the file to read when the open one, if any, is read to its end.
func (r *reader) following(bases []int64) (base int64, ok bool) {
	for i, b := range bases {
		last := i == len(bases)-1
		if r.file != nil && b > r.base || r.file == nil && (last || bases[i+1] > r.at) {
			return b, true
		}
	}
	return 0, false
}

// left tells how much of the open file counts from r.at on. One that is not
// the last any more does not grow, whether it was deleted or not.
func (r *reader) left(s state) (int64, error) {
	if len(s.bases) > 0 && s.bases[len(s.bases)-1] == r.base {
		return s.end - r.at, nil
	}
	info, err := r.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("reading a log: %w", err)
	}
	return max(r.base+info.Size()-r.at, 0), nil
}

// read reads whole records from the open file, of which limit bytes are left.
func (r *reader) read(limit int64) ([]entry, error) {
	for size := int64(block); ; size *= 2 {
		n := min(limit, size)
		if int64(len(r.buf)) < n {
			r.buf = make([]byte, n)
		}
		b := r.buf[:n]
		if _, err := r.file.ReadAt(b, r.at-r.base); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading a log: %w", err)
		}
		if whole := bytes.LastIndexByte(b, '\n') + 1; whole > 0 {
			return r.parse(b[:whole]), nil
		}
		if n == limit || n > maxRecord {
			return []entry{r.unreadable(n)}, nil
		}
	}
}

func (r *reader) parse(b []byte) (entries []entry) {
	for line := range bytes.Lines(b) {
		record, err := parse(line)
		if err != nil {
			entries = append(entries, r.unreadable(int64(len(line))))
			continue
		}
		r.at += int64(len(line))
		entries = append(entries, entry{record, r.at, false})
	}
	return entries
}

// unreadable passes over what is no record.
func (r *reader) unreadable(n int64) entry {
	r.at += n
	return entry{notice("[aegis] %d bytes of the log cannot be read: they are damaged", n), r.at, true}
}

// of makes what a client sees.
func (e entry) of(instance string) api.LogEntry {
	e.LogEntry.InstanceID, e.LogEntry.Cursor = instance, e.next
	return e.LogEntry
}
