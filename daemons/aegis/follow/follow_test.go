package follow_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

// scripted answers each query with the next of its streams.
type scripted struct {
	api.Aegis
	streams []answer
	queries []api.LogQuery
	refs    []string
}

// answer is a stream of lines with cursors from at on and its end, or a
// refusal.
type answer struct {
	refused error
	at      int64
	lines   []string
	end     error
}

func (s *scripted) Get(_ context.Context, ref string) (api.Instance, error) {
	if ref != "web" {
		return api.Instance{}, api.Errorf(api.NotFound, "no instance %q", ref)
	}
	return api.Instance{ID: "inst-1"}, nil
}

func (s *scripted) Logs(_ context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	a := s.streams[0]
	s.streams = s.streams[1:]
	s.queries, s.refs = append(s.queries, q), append(s.refs, ref)
	if a.refused != nil {
		return nil, a.refused
	}
	return &a, nil
}

func (a *answer) Next() ([]api.LogEntry, error) {
	if len(a.lines) == 0 {
		return nil, a.end
	}
	line := a.lines[0]
	a.lines = a.lines[1:]
	a.at++
	return []api.LogEntry{{Line: line, Cursor: a.at}}, nil
}

func (a *answer) Close() error { return nil }

var away = api.Errorf(api.Unavailable, "aegisd went away")

func read(s *scripted, q api.LogQuery) (lines, notices []string, err error) {
	r := follow.Reader{Aegis: s, Notice: func(l string) { notices = append(notices, l) }, Patience: 30 * time.Second}
	err = r.Each(context.Background(), "web", q, func(entries []api.LogEntry) error {
		for _, e := range entries {
			lines = append(lines, e.Line)
		}
		return nil
	})
	return lines, notices, err
}

func TestAFollowerReadsOnAfterARestartOfAegisd(t *testing.T) {
	two := 2
	s := &scripted{streams: []answer{
		{at: 5, lines: []string{"a", "b"}, end: away},
		{refused: api.Errorf(api.Unavailable, "aegisd went away: %w", io.EOF)},
		{at: 7, end: api.Errorf(api.Unavailable, "aegisd went away: %w", io.EOF)},
		{at: 7, lines: []string{"c"}, end: away},
		{end: away},
		{at: 8, lines: []string{"d"}, end: io.EOF},
	}}
	lines, notices, err := read(s, api.LogQuery{Follow: true, Tail: &two})
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, lines); diff != "" || err != nil || len(notices) != 4 {
		t.Errorf("%s%v, notices %q", diff, err, notices)
	}
	want := []api.LogQuery{{Follow: true, Tail: &two}, {Follow: true, Cursor: 7}, {Follow: true, Cursor: 7}, {Follow: true, Cursor: 7}, {Follow: true, Cursor: 8}, {Follow: true, Cursor: 8}}
	if diff := cmp.Diff(want, s.queries); diff != "" {
		t.Error(diff)
	}
	for _, ref := range s.refs {
		if ref != "inst-1" {
			t.Errorf("asked for %q", ref)
		}
	}
}

func TestAFollowerOfWhatComesMissesNothingWithoutACursor(t *testing.T) {
	none := 0
	before := time.Now()
	s := &scripted{streams: []answer{{end: away}, {lines: []string{"a"}, end: io.EOF}}}
	lines, _, err := read(s, api.LogQuery{Follow: true, Tail: &none})
	if diff := cmp.Diff([]string{"a"}, lines); diff != "" || err != nil {
		t.Errorf("%s%v", diff, err)
	}
	if q := s.queries[1]; q.Tail != nil || q.Since == nil || q.Since.Before(before) {
		t.Errorf("then it asked %+v", q)
	}
}

func TestWhatEndsAReader(t *testing.T) {
	gone, internal := api.Errorf(api.NotFound, "gone"), api.Errorf(api.Internal, "damaged")
	for name, c := range map[string]struct {
		query   api.LogQuery
		streams []answer
		want    error
	}{
		"the end":                          {api.LogQuery{}, []answer{{end: io.EOF}}, nil},
		"a break where nobody follows":     {api.LogQuery{}, []answer{{end: away}}, away},
		"an aegisd that was never there":   {api.LogQuery{Follow: true}, []answer{{refused: away}}, away},
		"an instance that was deleted":     {api.LogQuery{Follow: true}, []answer{{end: away}, {refused: gone}}, nil},
		"an instance that was never there": {api.LogQuery{Follow: true}, []answer{{refused: gone}}, gone},
		"an error of the log":              {api.LogQuery{Follow: true}, []answer{{end: internal}}, internal},
	} {
		if _, _, err := read(&scripted{streams: c.streams}, c.query); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	full := api.Errorf(api.Unavailable, "no room for the output")
	s := &scripted{streams: []answer{{lines: []string{"a"}}}}
	err := follow.Reader{Aegis: s}.Each(t.Context(), "web", api.LogQuery{Follow: true}, func([]api.LogEntry) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("a failing callback: %v", err)
	}
	if err := (follow.Reader{Aegis: s}).Each(t.Context(), "db", api.LogQuery{}, nil); api.CodeOf(err) != api.NotFound {
		t.Errorf("an unknown instance: %v", err)
	}
}

func TestPatienceEnds(t *testing.T) {
	var streams []answer
	streams = append(streams, answer{end: away})
	for range 50 {
		streams = append(streams, answer{refused: away})
	}
	r := follow.Reader{Aegis: &scripted{streams: streams}, Patience: 100 * time.Millisecond}
	if err := r.Each(t.Context(), "web", api.LogQuery{Follow: true}, nil); api.CodeOf(err) != api.Unavailable {
		t.Errorf("waiting: %v", err)
	}
}
