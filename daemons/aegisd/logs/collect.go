package logs

import (
	"bytes"
	"fmt"
	"io"

	"github.com/xfeldman/aegisvm/api"
)

// Source is a stream of a process that keeps its bytes until they are stored.
type Source interface {
	io.Reader
	// Stored lets it forget what is before an offset.
	Stored(before uint64) error
}

// Stream names a stream whose output is in a log.
type Stream struct {
	// Boot is the start of the instance that the process belongs to.
	Boot uint64
	// Name is stdout or stderr.
	Name   string
	Source api.LogSource
	ExecID string
}

// Collect writes what a source gives into the log, line by line, until the
// source ends or breaks. The first byte of the source has the offset at, and
// the offset behind the last one that is stored is returned. What the process
// has printed of a line is written at the end, so nothing is left over.
func (l *Log) Collect(s Stream, from Source, at uint64) (uint64, error) {
	var lines splitter
	buf := make([]byte, block)
	for {
		n, err := from.Read(buf)
		pieces := lines.feed(buf[:n])
		if err != nil {
			pieces = append(pieces, lines.end()...)
		}
		if len(pieces) > 0 {
			at = l.store(s, pieces, at)
			if told := from.Stored(at); err == nil {
				err = told
			}
		}
		if err != nil {
			return at, err
		}
	}
}

// store appends pieces of a stream and returns the offset behind them.
func (l *Log) store(s Stream, pieces []piece, at uint64) uint64 {
	records := make([]Record, len(pieces))
	for i, p := range pieces {
		at += uint64(p.size)
		r := &records[i]
		r.Boot, r.Offset = s.Boot, at
		r.Stream, r.Source, r.ExecID, r.Partial = s.Name, s.Source, s.ExecID, p.partial
		r.setText(p.text)
	}
	for len(records) > 0 {
		n := l.portion(records)
		l.awaitFollowers(records[:n])
		l.Append(records[:n]...)
		records = records[n:]
	}
	return at
}

// Offset tells how much of a stream is in the log. It is unknown where
// nothing of the stream is in it, or not any more.
func (l *Log) Offset(s Stream) (offset uint64, known bool, err error) {
	boot, stream := fmt.Appendf(nil, `"boot":%d,`, s.Boot), fmt.Appendf(nil, `"stream":%q`, s.Name)
	err = l.backward(func(_ int64, line []byte) bool {
		if bytes.Contains(line, boot) && !bytes.Contains(line, stream) {
			return true // of another stream: there may be too many to parse them all
		}
		r, err := parse(line)
		if err != nil {
			return true
		}
		if r.Boot == s.Boot && r.Stream == s.Name && r.Source == s.Source && r.ExecID == s.ExecID {
			offset, known = r.Offset, true
		}
		return !known && (r.Boot == 0 || r.Boot >= s.Boot)
	})
	return offset, known, err
}
