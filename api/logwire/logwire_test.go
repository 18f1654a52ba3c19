package logwire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/logwire"
)

// batches is a stream that gives them one by one and then its end.
type batches struct {
	left [][]api.LogEntry
	end  error
}

func (b *batches) Next() ([]api.LogEntry, error) {
	if len(b.left) == 0 {
		return nil, b.end
	}
	next := b.left[0]
	b.left = b.left[1:]
	return next, nil
}

func (b *batches) Close() error { return nil }

func entry(line string) api.LogEntry {
	return api.LogEntry{Time: time.Unix(1, 2).UTC(), Stream: "stdout", Source: "server", Line: line, InstanceID: "inst-1", Cursor: 7}
}

func all(s api.LogStream) (entries []api.LogEntry, err error) {
	for {
		next, err := s.Next()
		entries = append(entries, next...)
		if err != nil {
			return entries, err
		}
	}
}

func TestAStreamIsReadAsItWasWritten(t *testing.T) {
	odd := entry("a\x00<b>\u2028\ufffd")
	odd.Raw, odd.Partial, odd.ExecID = []byte("a\x00\xff"), true, "e1"
	want := []api.LogEntry{entry("one"), entry(""), odd, entry(strings.Repeat("x", 200_000))}
	for _, mark := range []bool{false, true} {
		for name, end := range map[string]error{"the end": io.EOF, "an error": api.Errorf(api.Unavailable, "aegisd is stopping")} {
			var b bytes.Buffer
			flushed := 0
			s := &batches{left: [][]api.LogEntry{want[:2], want[2:]}, end: end}
			if err := logwire.Write(&b, func() error { flushed++; return nil }, s, mark); err != nil || flushed < 2 {
				t.Fatalf("%s: %v, flushed %d times", name, err, flushed)
			}
			got, err := all(logwire.NewReader(t.Context(), io.NopCloser(&b), mark))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if api.CodeOf(err) != api.CodeOf(end) || err.Error() != end.Error() {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAStreamThatBreaksIsNotTakenForItsEnd(t *testing.T) {
	var b bytes.Buffer
	logwire.Write(&b, nil, &batches{left: [][]api.LogEntry{{entry("one")}}, end: io.EOF}, true)
	whole := b.String()
	end := strings.LastIndex(whole[:len(whole)-1], "\n") + 1
	for n := range len(whole) {
		got, err := all(logwire.NewReader(t.Context(), io.NopCloser(strings.NewReader(whole[:n])), true))
		if api.CodeOf(err) != api.Unavailable || len(got) > 0 != (n >= end) {
			t.Errorf("%d of %d bytes: %d entries, %v", n, len(whole), len(got), err)
		}
	}
	for _, garbage := range []string{"{\n", "[]\n", "x\n"} {
		if _, err := all(logwire.NewReader(t.Context(), io.NopCloser(strings.NewReader(garbage)), false)); api.CodeOf(err) != api.Internal {
			t.Errorf("%q: %v", garbage, err)
		}
	}
}

func TestTheEndOfTheContextEndsAReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	s := logwire.NewReader(ctx, r, true)
	done := make(chan error, 1)
	go func() {
		_, err := s.Next()
		done <- err
	}()
	cancel()
	if err := <-done; api.CodeOf(err) != api.Unavailable || !errors.Is(err, context.Canceled) {
		t.Errorf("next: %v", err)
	}
}

// What is at hand comes at once; a line that has not arrived is not waited
// for.
func TestAReaderGivesWhatIsAtHand(t *testing.T) {
	r, w := io.Pipe()
	s := logwire.NewReader(t.Context(), r, true)
	var b bytes.Buffer
	logwire.Write(&b, nil, &batches{left: [][]api.LogEntry{{entry("one"), entry("two"), entry("three")}}, end: errors.New("later")}, true)
	lines := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	go w.Write(bytes.Join([][]byte{lines[0], lines[1], lines[2][:10]}, nil))
	if got, err := s.Next(); err != nil || len(got) != 2 {
		t.Errorf("first %d entries, %v", len(got), err)
	}
	go w.Write(lines[2][10:])
	if got, err := s.Next(); err != nil || len(got) != 1 || got[0].Line != "three" {
		t.Errorf("then %+v, %v", got, err)
	}
	s.Close()
}

func TestAWriterStopsWhenNobodyReads(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	if err := logwire.Write(w, nil, &batches{left: [][]api.LogEntry{{entry("one")}}, end: io.EOF}, false); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write: %v", err)
	}
}
