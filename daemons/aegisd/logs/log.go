package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Log is the log of one instance. Its methods may be called from several
// goroutines.
type Log struct {
	config Config
	id     string
	dir    string

	mu sync.Mutex // guards the fields below
	// opened is set when bases and end are known. bases are the offsets of the
	// files' first bytes, ascending, and end is where the next record goes.
	opened bool
	bases  []int64
	end    int64
	file   *os.File // the last one, to append to; nil while nobody does
	missed missed
	// changed is closed and replaced at every change that readers wait for;
	// over says why there will be none any more.
	changed chan struct{}
	over    error
	// followers are those who read what comes; moved, where somebody waits for
	// them, is closed when one has come on.
	followers map[*follower]struct{}
	moved     chan struct{}
}

// missed counts what could not be written.
type missed struct {
	lines, bytes int
	why          error
}

// Append writes records with the time of now. It does not fail: what cannot
// be written is counted, and told in the log once it can be written again.
func (l *Log) Append(records ...Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != nil || len(records) == 0 {
		return
	}
	now := time.Now().UTC()
	for i := range records {
		records[i].Time = now
	}
	if l.missed.lines > 0 {
		note := notice("[aegis] %d lines with %d bytes are missing here: they could not be written: %v", l.missed.lines, l.missed.bytes, l.missed.why)
		if !l.write(note) {
			l.miss(records)
			return
		}
		l.missed = missed{}
	}
	for len(records) > 0 {
		n, err := l.fill(records)
		if err != nil {
			l.failed(err)
			l.miss(records)
			break
		}
		records = records[n:]
	}
	l.wake()
}

func (l *Log) write(r Record) bool {
	_, err := l.fill([]Record{r})
	return err == nil
}

func (l *Log) miss(records []Record) {
	l.missed.lines += len(records)
	for _, r := range records {
		l.missed.bytes += len(r.Bytes())
	}
}

// failed notes why nothing can be written, and says it once.
func (l *Log) failed(err error) {
	if l.missed.why == nil {
		l.config.Log.Error("log not written", "instance", l.id, "error", err)
	}
	l.missed.why = err
	if pathErr, ok := errors.AsType[*os.PathError](err); ok {
		l.missed.why = pathErr.Err // the path is nobody's business
	}
}

// fill writes as many of the records as go into one file, all or none, and
// tells how many. l.mu is held.
func (l *Log) fill(records []Record) (n int, err error) {
	if err := l.forAppending(); err != nil {
		return 0, err
	}
	var buf bytes.Buffer
	for _, r := range records {
		before := buf.Len()
		if err := appendRecord(&buf, r); err != nil {
			return 0, fmt.Errorf("encoding a record: %w", err)
		}
		if l.size()+int64(buf.Len()) <= l.config.FileSize {
			n++
			continue
		}
		if n > 0 {
			buf.Truncate(before)
		} else if n++; l.size() > 0 {
			err = l.begin()
		}
		break
	}
	if err != nil {
		return 0, err
	}
	if _, err := l.file.Write(buf.Bytes()); err != nil {
		l.giveBack()
		return 0, err
	}
	l.end += int64(buf.Len())
	return n, nil
}

// size is how long the last file is.
func (l *Log) size() int64 { return l.end - l.bases[len(l.bases)-1] }

// giveBack takes back what was written of records that did not go in whole.
func (l *Log) giveBack() {
	if err := l.file.Truncate(l.size()); err != nil {
		l.rest()
		l.opened = false // the next one finds out what is there
	}
}

// forAppending makes sure that the last file is open and has room.
func (l *Log) forAppending() error {
	if err := l.open(); err != nil {
		return err
	}
	if len(l.bases) == 0 || l.size() >= l.config.FileSize {
		return l.begin()
	}
	if l.file != nil {
		return nil
	}
	f, err := os.OpenFile(l.path(l.bases[len(l.bases)-1]), os.O_WRONLY|os.O_APPEND, 0)
	l.file = f
	return err
}

// begin begins the next file and deletes the oldest ones.
func (l *Log) begin() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path(l.end), os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	l.rest()
	l.file, l.bases = f, append(l.bases, l.end)
	for len(l.bases) > l.config.Files {
		if err := os.Remove(l.path(l.bases[0])); err != nil {
			l.config.Log.Warn("old log file not deleted", "instance", l.id, "error", err)
		}
		l.bases = l.bases[1:]
	}
	return nil
}

func (l *Log) path(base int64) string { return filepath.Join(l.dir, fileName(base)) }

// rest closes the file that is written.
func (l *Log) rest() {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}

// Rest says that nothing will be appended for a while.
func (l *Log) Rest() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest()
}

// wake wakes the readers.
func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Log) close(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over == nil {
		l.over = why
		l.rest()
		l.wake()
		l.move()
	}
}

// remove ends the log for good. Readers find no more than the file that they
// have open.
func (l *Log) remove() error {
	l.close(errRemoved)
	return os.RemoveAll(l.dir)
}

var errRemoved = api.Errorf(api.NotFound, "the instance was deleted")
