package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// Record is an entry as it is stored, without instance and cursor: both are
// told by its place.
type Record struct {
	api.LogEntry
	// Boot is the start of the instance whose process wrote it, and Offset how
	// much of the stream is in the log with it.
	Boot   uint64 `json:"boot,omitempty"`
	Offset uint64 `json:"offset,omitempty"`
}

// maxRecord is how long a stored record may be: each byte of a line may become
// six of JSON.
const maxRecord = 8 * api.MaxLine

// System makes a record of aegisd's own.
func System(stream, text string) Record {
	r := Record{LogEntry: api.LogEntry{Stream: stream, Source: api.LogSystem}}
	r.setText([]byte(text[:min(len(text), api.MaxLine)]))
	return r
}

// setText sets the line.
func (r *Record) setText(b []byte) {
	r.Line, r.Raw = string(b), nil
	if !utf8.Valid(b) {
		r.Line, r.Raw = strings.ToValidUTF8(r.Line, "\ufffd"), bytes.Clone(b)
	}
}

// appendRecord appends the stored form of a record.
func appendRecord(to *bytes.Buffer, r Record) error {
	e := json.NewEncoder(to)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

var errRecord = errors.New("malformed record")

// parse reads a stored record. What somebody else wrote into the file may be
// anything.
func parse(line []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("%w: %w", errRecord, err)
	}
	known := r.Stream == api.LogStdout || r.Stream == api.LogStderr
	if !known || r.Source == "" || r.Time.IsZero() || len(r.Line) > maxRecord {
		return r, errRecord
	}
	return r, nil
}

// notice is what a reader is told where the log has nothing to read.
func notice(format string, args ...any) Record {
	r := System(api.LogStderr, fmt.Sprintf(format, args...))
	r.Time = time.Now().UTC()
	return r
}
