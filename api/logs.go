package api

import (
	"context"
	"time"
)

// Logs is the part of Aegis that tells what instances printed and what became
// of them.
type Logs interface {
	// Logs reads the log of an instance, in whatever state that is. The log has
	// the output of a primary process without Attach and of detached execs, line
	// by line, and what aegisd has to say of every instance; it goes with the
	// instance. The caller closes the stream.
	Logs(ctx context.Context, ref string, q LogQuery) (LogStream, error)
}

// LogQuery says which entries of a log are wanted. The JSON names are those of
// the query of GET /v1/instances/{id}/logs; the filters apply before Tail.
type LogQuery struct {
	// Follow waits for further entries until the instance is deleted, or Until
	// has passed.
	Follow bool `json:"follow,omitempty"`
	// Since and Until bound the time of entries, inclusive.
	Since *time.Time `json:"since,omitempty"`
	Until *time.Time `json:"until,omitempty"`
	// Tail leaves out all but so many of the entries that are there.
	Tail *int `json:"tail,omitempty"`
	// Source and ExecID leave out all others.
	Source LogSource `json:"source,omitempty"`
	ExecID string    `json:"exec_id,omitempty"`
	// Cursor goes on behind an entry that was read before: it is that entry's
	// own.
	Cursor int64 `json:"cursor,omitempty"`
}

// LogSource is who wrote an entry.
type LogSource string

// The sources.
const (
	LogServer LogSource = "server" // the primary process
	LogExec   LogSource = "exec"   // a detached exec
	LogSystem LogSource = "system" // aegisd
)

// The streams of an entry.
const (
	LogStdout = "stdout"
	LogStderr = "stderr"
)

// LogEntry is one line of a log.
type LogEntry struct {
	Time time.Time `json:"ts"`
	// Stream is stdout or stderr.
	Stream string `json:"stream"`
	// Line is the line without its newline. What is no UTF-8 in it is U+FFFD
	// here; Raw then has the bytes as they were.
	Line       string    `json:"line"`
	Raw        []byte    `json:"raw,omitempty"`
	Source     LogSource `json:"source"`
	InstanceID string    `json:"instance_id,omitempty"`
	ExecID     string    `json:"exec_id,omitempty"`
	// Partial says that no newline followed: the line was longer than MaxLine
	// and goes on in the next entry of its stream, or the stream ended.
	Partial bool `json:"partial,omitempty"`
	// Cursor is where reading goes on behind this entry.
	Cursor int64 `json:"cursor,omitempty"`
}

// MaxLine is how many bytes of a line one entry holds.
const MaxLine = 16 << 10

// Bytes are the bytes of the line.
func (e LogEntry) Bytes() []byte {
	if e.Raw != nil {
		return e.Raw
	}
	return []byte(e.Line)
}

// LogStream gives the entries of a log.
type LogStream interface {
	// Next waits until there are entries and returns those at hand. It returns
	// io.EOF behind the last one, and Unavailable when aegisd goes away: who
	// follows asks again then, with the last cursor.
	Next() ([]LogEntry, error)
	// Close ends the stream; a Next under way fails.
	Close() error
}
