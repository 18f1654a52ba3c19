package logs_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
)

var discard = slog.New(slog.DiscardHandler)

// home is the folder of a store that may be opened again and again.
type home struct {
	*testing.T
	dir    string
	config logs.Config
}

func newHome(t *testing.T) *home {
	dir := filepath.Join(t.TempDir(), "logs")
	return &home{T: t, dir: dir, config: logs.Config{Dir: dir, Log: discard}}
}

// small makes files so short that few lines fill them.
func small(t *testing.T) *home {
	h := newHome(t)
	h.config.FileSize = 1000
	return h
}

// open is what aegisd does at its start; the last one counts as killed.
func (h *home) open() *logs.Log {
	s := logs.New(h.config)
	h.Cleanup(s.Close)
	return s.Log("inst-1")
}

func line(text string) logs.Record {
	return logs.Record{LogEntry: api.LogEntry{Stream: api.LogStdout, Source: api.LogServer, Line: text}}
}

// lines gives numbered records.
func lines(from, to int) (all []logs.Record) {
	for i := from; i < to; i++ {
		all = append(all, line(fmt.Sprintf("line %d", i)))
	}
	return all
}

func (h *home) read(l *logs.Log, q api.LogQuery) (all []api.LogEntry) {
	h.Helper()
	s, err := l.Read(h.Context(), q)
	if err != nil {
		h.Fatal(err)
	}
	defer s.Close()
	for {
		entries, err := s.Next()
		all = append(all, entries...)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			h.Fatal(err)
		}
	}
}

func texts(entries []api.LogEntry) (all []string) {
	for _, e := range entries {
		all = append(all, e.Line)
	}
	return all
}

// files are the log's files, oldest first.
func (h *home) files() []string {
	h.Helper()
	all, err := filepath.Glob(filepath.Join(h.dir, "inst-1", "*.ndjson"))
	if err != nil {
		h.Fatal(err)
	}
	return all
}

func TestALogTellsWhatWasAppended(t *testing.T) {
	h := newHome(t)
	l := h.open()
	if got := h.read(l, api.LogQuery{}); len(got) > 0 {
		t.Errorf("an empty log has %v", got)
	}
	before := time.Now().UTC()
	l.Append(line("one"), line("two"))
	l.Append(logs.System(api.LogStderr, "three"))
	got := h.read(l, api.LogQuery{})
	for i, e := range got {
		if e.InstanceID != "inst-1" || e.Time.Before(before) || e.Cursor <= 0 || i > 0 && e.Cursor <= got[i-1].Cursor {
			t.Errorf("entry %d is %+v", i, e)
		}
		got[i].Time, got[i].Cursor = time.Time{}, 0
	}
	want := []api.LogEntry{
		{Stream: "stdout", Source: "server", Line: "one", InstanceID: "inst-1"},
		{Stream: "stdout", Source: "server", Line: "two", InstanceID: "inst-1"},
		{Stream: "stderr", Source: "system", Line: "three", InstanceID: "inst-1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, path := range append(h.files(), filepath.Dir(h.files()[0])) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

func TestQueries(t *testing.T) {
	h := newHome(t)
	l := h.open()
	run := line("exec 1")
	run.Source, run.ExecID = api.LogExec, "e1"
	l.Append(lines(0, 3)...)
	l.Append(run, logs.System(api.LogStdout, "system"))
	all := h.read(l, api.LogQuery{})
	middle := time.Now().UTC()
	l.Append(lines(3, 5)...)
	n := func(i int) *int { return &i }
	ago := middle.Add(-time.Hour)
	for name, c := range map[string]struct {
		query api.LogQuery
		want  []string
	}{
		"all":                   {api.LogQuery{}, []string{"line 0", "line 1", "line 2", "exec 1", "system", "line 3", "line 4"}},
		"tail":                  {api.LogQuery{Tail: n(2)}, []string{"line 3", "line 4"}},
		"no tail":               {api.LogQuery{Tail: n(0)}, nil},
		"more than there are":   {api.LogQuery{Tail: n(100)}, []string{"line 0", "line 1", "line 2", "exec 1", "system", "line 3", "line 4"}},
		"source":                {api.LogQuery{Source: api.LogSystem}, []string{"system"}},
		"filters before tail":   {api.LogQuery{Source: api.LogServer, Tail: n(3)}, []string{"line 2", "line 3", "line 4"}},
		"exec":                  {api.LogQuery{ExecID: "e1", Tail: n(5)}, []string{"exec 1"}},
		"another exec":          {api.LogQuery{ExecID: "e2"}, nil},
		"since":                 {api.LogQuery{Since: &middle}, []string{"line 3", "line 4"}},
		"until":                 {api.LogQuery{Until: &middle, Tail: n(1)}, []string{"system"}},
		"followed until a time": {api.LogQuery{Follow: true, Until: &middle, Tail: n(2)}, []string{"exec 1", "system"}},
		"nothing":               {api.LogQuery{Until: &ago}, nil},
		"cursor":                {api.LogQuery{Cursor: all[3].Cursor}, []string{"system", "line 3", "line 4"}},
		"cursor and tail":       {api.LogQuery{Cursor: all[4].Cursor, Tail: n(5)}, []string{"line 3", "line 4"}},
		"a cursor of nowhere":   {api.LogQuery{Cursor: 1 << 40}, nil},
	} {
		if diff := cmp.Diff(c.want, texts(h.read(l, c.query))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestOldFilesGo(t *testing.T) {
	h := small(t)
	l := h.open()
	for i := range 1000 {
		l.Append(lines(i, i+1)...)
	}
	got := h.read(l, api.LogQuery{})
	if files := h.files(); len(files) != 3 {
		t.Errorf("files: %v", files)
	}
	for _, f := range h.files() {
		if info, _ := os.Stat(f); info.Size() > 1000 {
			t.Errorf("%s has %d bytes", f, info.Size())
		}
	}
	if !strings.Contains(got[0].Line, "bytes of the log were deleted") || got[0].Source != api.LogSystem {
		t.Errorf("a reader from the beginning is told %q", got[0].Line)
	}
	if last := got[len(got)-1]; last.Line != "line 999" || len(got) < 10 {
		t.Errorf("%d entries, the last is %q", len(got), last.Line)
	}
	if got := texts(h.read(l, api.LogQuery{Cursor: got[0].Cursor})); got[0] == "" || strings.Contains(got[0], "deleted") {
		t.Errorf("from where there is something: %q", got[0])
	}
}

func TestABatchThatFillsManyFilesIsOneFileAtATime(t *testing.T) {
	h := small(t)
	l := h.open()
	l.Append(lines(0, 25)...)
	got := texts(h.read(l, api.LogQuery{}))
	if len(got) != 25 || len(h.files()) != 3 {
		t.Errorf("%d entries in %v", len(got), h.files())
	}
}

// follower collects what a stream gives, until it ends.
func (h *home) follower(l *logs.Log, q api.LogQuery) (<-chan []string, api.LogStream) {
	h.Helper()
	q.Follow = true
	s, err := l.Read(h.Context(), q)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { s.Close() })
	out := make(chan []string, 1)
	go func() {
		var all []string
		for {
			entries, err := s.Next()
			all = append(all, texts(entries)...)
			if err != nil {
				out <- append(all, err.Error())
				return
			}
		}
	}()
	return out, s
}

func TestAFollowerGetsEveryLineOverRotations(t *testing.T) {
	h := small(t)
	h.config.FileSize, h.config.Files = 5000, 100
	s := logs.New(h.config)
	l := s.Log("inst-1")
	got, _ := h.follower(l, api.LogQuery{})
	var want []string
	for i := range 3000 {
		l.Append(lines(i, i+1)...)
		want = append(want, fmt.Sprintf("line %d", i))
	}
	s.Close()
	want = append(want, "aegisd is stopping: start it again with `aegis up`")
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
}

// A follower that has a file open reads it to its end, deleted or not, and is
// told what it missed behind it.
func TestAFollowerThatIsFarBehindIsTold(t *testing.T) {
	h := small(t)
	s := logs.New(h.config)
	l := s.Log("inst-1")
	l.Append(lines(0, 2)...)
	stream, err := l.Read(t.Context(), api.LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	first, err := stream.Next()
	if err != nil || len(first) != 2 {
		t.Fatalf("first: %v, %v", texts(first), err)
	}
	for i := range 100 {
		l.Append(lines(i+2, i+3)...)
	}
	s.Close()
	var all []string
	for err == nil {
		var entries []api.LogEntry
		entries, err = stream.Next()
		all = append(all, texts(entries)...)
	}
	gap := slices.IndexFunc(all, func(s string) bool { return strings.Contains(s, "were deleted before they were read") })
	if gap < 5 || all[gap-1] != fmt.Sprintf("line %d", gap+1) || all[len(all)-1] != "line 101" || api.CodeOf(err) != api.Unavailable {
		t.Errorf("gap at %d: %q, %v", gap, all, err)
	}
}

func TestDeletingALogEndsItsFollowers(t *testing.T) {
	h := newHome(t)
	s := logs.New(h.config)
	l := s.Log("inst-1")
	l.Append(lines(0, 1)...)
	got, _ := h.follower(l, api.LogQuery{})
	other, _ := h.follower(s.Log("inst-2"), api.LogQuery{})
	for range 2 {
		if err := s.Remove("inst-1"); err != nil {
			t.Fatal(err)
		}
	}
	if all := <-got; all[len(all)-1] != "EOF" {
		t.Errorf("follower got %v", all)
	}
	l.Append(lines(1, 2)...) // comes too late
	if ids, err := s.Instances(); err != nil || len(ids) > 0 {
		t.Errorf("logs of %v, %v", ids, err)
	}
	select {
	case got := <-other:
		t.Errorf("the follower of another log ended: %v", got)
	default:
	}
	s.Close()
	<-other
}

func TestCloseWakesAFollower(t *testing.T) {
	h := newHome(t)
	got, s := h.follower(h.open(), api.LogQuery{})
	s.Close()
	if all := <-got; all[0] != "context canceled" {
		t.Errorf("follower got %v", all)
	}
}

// A writer that was killed left any part of its last write.
func TestWhatAKilledWriterLeftIsRepaired(t *testing.T) {
	h := newHome(t)
	h.open().Append(lines(0, 2)...)
	path := h.files()[0]
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h.open().Append(lines(2, 4)...)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := len(before); n < len(whole); n++ {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l := h.open()
		l.Append(line("after"))
		want := []string{"line 0", "line 1"}
		if strings.Count(string(whole[:n]), "\n") == 3 {
			want = append(want, "line 2")
		}
		if diff := cmp.Diff(append(want, "after"), texts(h.read(h.open(), api.LogQuery{}))); diff != "" {
			t.Errorf("%d bytes of %d: %s", n, len(whole), diff)
		}
	}
}

func TestDamageIsToldAndPassedOver(t *testing.T) {
	h := newHome(t)
	h.open().Append(lines(0, 1)...)
	path := h.files()[0]
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Write(make([]byte, 300<<10)) // longer than any record, as after a power cut
	f.WriteString("\n{}\nnull\n")
	f.Close()
	l := h.open()
	l.Append(lines(1, 2)...)
	got := texts(h.read(l, api.LogQuery{}))
	if got[0] != "line 0" || got[len(got)-1] != "line 1" || len(got) > 10 || !strings.Contains(got[1], "bytes of the log cannot be read") {
		t.Errorf("read %q", got)
	}
	one := 1
	if got := texts(h.read(l, api.LogQuery{Tail: &one})); !slices.Equal(got, []string{"line 1"}) {
		t.Errorf("tail: %q", got)
	}
	two := 2
	if got := h.read(l, api.LogQuery{Tail: &two}); got[0].Line != "line 0" {
		t.Errorf("tail over the damage: %q", texts(got))
	}
}

func TestALogWhoseFilesWereDeletedByHandGoesOn(t *testing.T) {
	h := small(t)
	l := h.open()
	l.Append(lines(0, 20)...)
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	h.read(l, api.LogQuery{})
	l.Append(lines(20, 21)...)
	if got := texts(h.read(l, api.LogQuery{})); !slices.Contains(got, "line 20") {
		t.Errorf("read %q", got)
	}
}
