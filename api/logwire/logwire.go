// Package logwire writes an api.LogStream as NDJSON and reads it back: one
// entry a line, and a line with an error where it ends with one. It is what
// the transports of api.Logs have in common; it opens nothing.
package logwire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/xfeldman/aegisvm/api"
)

// line is one line: an entry, or an error. End is the last line of a stream
// whose transport does not tell an end from a break.
type line struct {
	api.LogEntry
	Code  api.Code `json:"code,omitempty"`
	Error string   `json:"error,omitempty"`
	End   bool     `json:"end,omitempty"`
}

// end is that last line.
type end struct {
	End bool `json:"end"`
}

// Write writes the entries of a stream and calls flush, where there is one,
// whenever no more are at hand. An error of the stream is written as well; that
// of w is returned. mark asks for the line that says that the stream ended.
func Write(w io.Writer, flush func() error, s api.LogStream, mark bool) error {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	for {
		entries, err := s.Next()
		buf.Reset()
		for i := range entries {
			if err := e.Encode(&entries[i]); err != nil {
				return fmt.Errorf("encoding a log entry: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF) && mark:
			e.Encode(end{true})
		case err != nil && !errors.Is(err, io.EOF):
			e.Encode(api.AsError(err))
		}
		if _, werr := w.Write(buf.Bytes()); werr != nil {
			return fmt.Errorf("writing log entries: %w", werr)
		}
		if flush != nil {
			if ferr := flush(); ferr != nil {
				return fmt.Errorf("writing log entries: %w", ferr)
			}
		}
		if err != nil {
			return nil
		}
	}
}

// reader is the other end.
type reader struct {
	ctx    context.Context
	in     *bufio.Reader
	body   io.Closer
	marked bool
	err    error // what comes behind the last entries
}

// NewReader reads what Write wrote. marked says that it was asked to mark the
// end. The end of ctx closes body.
func NewReader(ctx context.Context, body io.ReadCloser, marked bool) api.LogStream {
	ctx, cancel := context.WithCancel(ctx)
	c := &closer{body: body, cancel: cancel}
	context.AfterFunc(ctx, func() { body.Close() })
	return &reader{ctx: ctx, in: bufio.NewReaderSize(body, 64<<10), body: c, marked: marked}
}

type closer struct {
	body   io.Closer
	cancel context.CancelFunc
}

func (c *closer) Close() error {
	c.cancel()
	return c.body.Close()
}

// Next implements api.LogStream.
func (r *reader) Next() (entries []api.LogEntry, err error) {
	for r.err == nil && (len(entries) == 0 || r.ready()) {
		l, err := r.line()
		if err != nil {
			r.err = err
			break
		}
		entries = append(entries, l.LogEntry)
	}
	if len(entries) > 0 {
		return entries, nil
	}
	return nil, r.err
}

// ready tells whether a whole line has arrived.
func (r *reader) ready() bool {
	b, _ := r.in.Peek(r.in.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

func (r *reader) line() (l line, err error) {
	text, err := r.in.ReadBytes('\n')
	switch {
	case r.ctx.Err() != nil:
		return l, api.Errorf(api.Unavailable, "reading the log: %w", context.Cause(r.ctx))
	case errors.Is(err, io.EOF) && len(text) == 0 && !r.marked:
		return l, io.EOF
	case err != nil:
		return l, api.Errorf(api.Unavailable, "aegisd went away while it told the log: see its own log, then `aegis up`")
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, api.Errorf(api.Internal, "reading the log: aegisd sent a malformed line: %w", err)
	}
	switch {
	case l.Error != "":
		return l, api.Errorf(l.Code, "%s", l.Error)
	case l.End:
		return l, io.EOF
	}
	return l, nil
}

// Close implements api.LogStream.
func (r *reader) Close() error { return r.body.Close() }
