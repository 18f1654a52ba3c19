package apitest

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// log reads a log to its end.
func (s suite) log(ref string, q api.LogQuery) (all []api.LogEntry) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	stream, err := s.Logs(ctx, ref, q)
	if err != nil {
		s.Fatalf("logs of %s: %v", ref, err)
	}
	defer stream.Close()
	for {
		entries, err := stream.Next()
		all = append(all, entries...)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			s.Fatalf("logs of %s after %d entries: %v", ref, len(all), err)
		}
	}
}

// brief is what of an entry is the same every time.
func brief(entries []api.LogEntry) (all []string) {
	for _, e := range entries {
		all = append(all, string(e.Source)+" "+e.Stream+" "+e.Line)
	}
	return all
}

func (s suite) printed() {
	in := s.create(api.InstanceSpec{Command: []string{"lines", "3"}})
	s.awaitPhase(in.ID, api.PhaseStopped)
	got := s.log(in.ID, api.LogQuery{})
	for i, e := range got {
		if e.InstanceID != in.ID || e.Time.Before(in.CreatedAt) || e.Cursor <= 0 {
			s.Errorf("entry %d: %+v", i, e)
		}
	}
	want := []string{
		"server stdout line 0", "server stdout line 1", "server stdout line 2",
		"system stdout process exited (code=0)", "system stderr [aegis] stopped",
	}
	if diff := cmp.Diff(want, brief(got[max(0, len(got)-len(want)):])); diff != "" {
		s.Errorf("%s of %q", diff, brief(got))
	}
}

func (s suite) printedEnds() {
	for _, c := range []struct {
		command []string
		want    []string
	}{
		{[]string{"exit", "3"}, []string{"server stderr exit 3", "system stdout process exited (code=3)"}},
		{[]string{"kill", "9"}, []string{"system stderr [aegis] killed by signal 9", "system stdout process exited (code=137)"}},
		{[]string{"nosuch"}, []string{"system stderr [aegis] nosuch: not found", "system stdout process exited (code=127)"}},
	} {
		in := s.create(api.InstanceSpec{Command: c.command})
		s.awaitPhase(in.ID, api.PhaseStopped)
		got := brief(s.log(in.ID, api.LogQuery{}))
		got = got[max(0, len(got)-1-len(c.want)) : len(got)-1]
		if diff := cmp.Diff(c.want, got); diff != "" {
			s.Errorf("%q: %s", c.command, diff)
		}
	}
	in := s.create(api.InstanceSpec{Command: []string{"true"}, ImageRef: "/no/such/image"})
	s.awaitPhase(in.ID, api.PhaseFailed)
	got := s.log(in.ID, api.LogQuery{})
	if last := got[len(got)-1]; last.Source != api.LogSystem || !strings.Contains(last.Line, "[aegis] failed: ") || !strings.Contains(last.Line, "/no/such/image") {
		s.Errorf("a failed start: %q", brief(got))
	}
}

func (s suite) logQueries() {
	in := s.create(api.InstanceSpec{Command: []string{"lines", "100"}})
	s.awaitPhase(in.ID, api.PhaseStopped)
	all := s.log(in.ID, api.LogQuery{Source: api.LogServer})
	if len(all) != 100 {
		s.Fatalf("%d entries", len(all))
	}
	two, none, middle := 2, 0, all[50]
	for name, c := range map[string]struct {
		query api.LogQuery
		want  []api.LogEntry
	}{
		"tail":          {api.LogQuery{Source: api.LogServer, Tail: &two}, all[98:]},
		"no tail":       {api.LogQuery{Tail: &none}, nil},
		"cursor":        {api.LogQuery{Source: api.LogServer, Cursor: middle.Cursor}, all[51:]},
		"cursor, tail":  {api.LogQuery{Source: api.LogServer, Cursor: middle.Cursor, Tail: &two}, all[98:]},
		"another exec":  {api.LogQuery{ExecID: "exec-1"}, nil},
		"another time":  {api.LogQuery{Until: &in.CreatedAt}, nil},
		"until, follow": {api.LogQuery{Source: api.LogServer, Until: &all[99].Time, Follow: true, Tail: &two}, all[98:]},
	} {
		if diff := cmp.Diff(c.want, s.log(in.ID, c.query)); diff != "" {
			s.Errorf("%s: %s", name, diff)
		}
	}
	since := s.log(in.ID, api.LogQuery{Since: &middle.Time})
	if len(since) == 0 || since[0].Time.Before(middle.Time) || since[len(since)-1].Line != "[aegis] stopped" {
		s.Errorf("since: %q", brief(since))
	}
}

func (s suite) logRefusals() {
	in := s.create(api.InstanceSpec{Command: []string{"true"}})
	minus := -1
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	for name, q := range map[string]api.LogQuery{
		"a negative tail":             {Tail: &minus},
		"a negative cursor":           {Cursor: -1},
		"an unknown source":           {Source: "kernel"},
		"an end before its beginning": {Since: &late, Until: &early},
	} {
		_, err := s.Logs(s.Context(), in.ID, q)
		s.wantCode(name, err, api.InvalidArgument)
	}
	_, err := s.Logs(s.Context(), "nobody", api.LogQuery{})
	s.wantCode("logs of nobody", err, api.NotFound)
}

func (s suite) logFollow() {
	in := s.create(api.InstanceSpec{Command: []string{"trap"}})
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	stream, err := s.Logs(ctx, in.ID, api.LogQuery{Follow: true, Source: api.LogServer})
	if err != nil {
		s.Fatal(err)
	}
	defer stream.Close()
	next := func(want string) {
		s.Helper()
		entries, err := stream.Next()
		if err != nil || len(entries) != 1 || entries[0].Line != want {
			s.Fatalf("got %q, %v, want %q", brief(entries), err, want)
		}
	}
	next("ready")
	for range 2 { // over a stop and a start of the instance
		if err := s.Signal(ctx, in.ID, 15); err != nil {
			s.Fatal(err)
		}
		next("signal 15")
		s.awaitPhase(in.ID, api.PhaseStopped)
		if _, err := s.Start(ctx, in.ID); err != nil {
			s.Fatal(err)
		}
		next("ready")
	}
	if err := s.Delete(ctx, in.ID); err != nil {
		s.Fatal(err)
	}
	if entries, err := stream.Next(); !errors.Is(err, io.EOF) {
		s.Errorf("after the end: %q, %v", brief(entries), err)
	}
}

func (s suite) logFollowGivenUp() {
	in := s.create(api.InstanceSpec{Command: []string{"sleep"}})
	ctx, cancel := context.WithCancel(s.Context())
	stream, err := s.Logs(ctx, in.ID, api.LogQuery{Follow: true, Source: api.LogExec})
	if err != nil {
		s.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, cancel)
	_, err = stream.Next()
	s.wantCode("a reader that gives up", err, api.Unavailable)
	stream.Close()
}

func (s suite) logOfAttached() {
	in := s.create(attached("echo", "mine"))
	streams := s.attach(in.ID)
	if got := s.read(streams.Stdout); got != "mine\n" {
		s.Errorf("stdout is %q", got)
	}
	if got := s.log(in.ID, api.LogQuery{Source: api.LogServer}); len(got) > 0 {
		s.Errorf("the log has %q", brief(got))
	}
	if got := s.log(in.ID, api.LogQuery{}); len(got) == 0 {
		s.Error("the log does not tell of the start")
	}
}
