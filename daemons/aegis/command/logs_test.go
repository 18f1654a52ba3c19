package command

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

// logged is a log that is told once.
type logged struct{ entries []api.LogEntry }

func (f *fakeAegis) Get(_ context.Context, ref string) (api.Instance, error) {
	if ref != "web" {
		return api.Instance{}, api.Errorf(api.NotFound, "no instance %q", ref)
	}
	return api.Instance{ID: "inst-1", Handle: "web"}, nil
}

func (f *fakeAegis) Logs(_ context.Context, _ string, q api.LogQuery) (api.LogStream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.query = &q
	return &logged{f.log}, nil
}

func (l *logged) Next() ([]api.LogEntry, error) {
	if len(l.entries) == 0 {
		return nil, io.EOF
	}
	all := l.entries
	l.entries = nil
	return all, nil
}

func (l *logged) Close() error { return nil }

func someLog() []api.LogEntry {
	at := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	e := func(stream string, source api.LogSource, line string) api.LogEntry {
		at = at.Add(time.Second)
		return api.LogEntry{Time: at, Stream: stream, Source: source, Line: line, InstanceID: "inst-1", Cursor: at.Unix()}
	}
	long, raw := e("stdout", api.LogServer, "lo"), e("stdout", api.LogServer, "\ufffd")
	long.Partial, raw.Raw = true, []byte("\xff\x00")
	return []api.LogEntry{
		e("stderr", api.LogSystem, "[aegis] started"), e("stdout", api.LogServer, "one"), e("stderr", api.LogServer, "problem"),
		long, e("stdout", api.LogServer, "ng"), raw, e("stdout", api.LogExec, "of an exec"), e("stdout", api.LogSystem, "process exited (code=0)"),
	}
}

func TestLogsGoWhereTheyWerePrinted(t *testing.T) {
	serve(t, &fakeAegis{log: someLog()})
	code, stdout, stderr := aegis(t, "logs", "web")
	if want := "one\nlong\n\xff\x00\n[exec] of an exec\n"; code != 0 || stdout != want {
		t.Errorf("exit %d, stdout %q, want %q", code, stdout, want)
	}
	if want := "[system] started\nproblem\n[system] process exited (code=0)\n"; stderr != want {
		t.Errorf("stderr %q, want %q", stderr, want)
	}
	_, stdout, _ = aegis(t, "logs", "-t", "web")
	if want := "2026-01-02T03:04:09.000000600Z one\n"; !strings.HasPrefix(stdout, want) || strings.Count(stdout, "2026") != 4 {
		t.Errorf("with times: %q", stdout)
	}
	code, stdout, stderr = aegis(t, "logs", "-o", "json", "web")
	var got []api.LogEntry
	for d := json.NewDecoder(strings.NewReader(stdout)); ; {
		var e api.LogEntry
		if d.Decode(&e) != nil {
			break
		}
		got = append(got, e)
	}
	if diff := cmp.Diff(someLog(), got); diff != "" || code != 0 || stderr != "" {
		t.Errorf("exit %d, %q, as JSON: %s", code, stderr, diff)
	}
}

func TestLogsFlagsBecomeAQuery(t *testing.T) {
	f := &fakeAegis{}
	serve(t, f)
	none, at := 0, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	midnight := time.Date(2026, 1, 2, 0, 0, 0, 0, time.Local)
	for _, c := range []struct {
		args []string
		want api.LogQuery
	}{
		{nil, api.LogQuery{}},
		{[]string{"-f", "-n", "0"}, api.LogQuery{Follow: true, Tail: &none}},
		{[]string{"--source", "exec", "--exec-id", "e1"}, api.LogQuery{Source: api.LogExec, ExecID: "e1"}},
		{[]string{"--since", "2026-01-02", "--until", "2026-01-02T03:04:05Z"}, api.LogQuery{Since: &midnight, Until: &at}},
	} {
		code, _, stderr := aegis(t, append(append([]string{"logs"}, c.args...), "web")...)
		if code != 0 || f.query == nil {
			t.Fatalf("%v: exit %d, %q", c.args, code, stderr)
		}
		if diff := cmp.Diff(c.want, *f.query, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
			t.Errorf("%v: %s", c.args, diff)
		}
	}
	before := time.Now().Add(-90 * time.Second)
	if aegis(t, "logs", "--since", "90s", "web"); f.query.Since == nil || f.query.Since.Before(before) || f.query.Since.After(time.Now()) {
		t.Errorf("90s ago is %v", f.query.Since)
	}
}

func TestLogsRefuseWhatMakesNoSense(t *testing.T) {
	serve(t, &fakeAegis{})
	for _, c := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{nil, 2, "no name: expected the name or id of an instance"},
		{[]string{"a", "b"}, 2, `unexpected argument "b"`},
		{[]string{"--tail", "-1", "web"}, 2, "tail of -1 lines"},
		{[]string{"--since", "yesterday", "web"}, 2, "expected a time such as"},
		{[]string{"-o", "yaml", "web"}, 2, "expected text or json"},
		{[]string{"nobody"}, 1, `no instance "nobody"`},
	} {
		code, stdout, stderr := aegis(t, append([]string{"logs"}, c.args...)...)
		if code != c.code || stdout != "" || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v: exit %d, %q, %q", c.args, code, stdout, stderr)
		}
	}
}

func TestATerminalIsColouredAndNotSteered(t *testing.T) {
	for in, want := range map[string]string{
		"grüße\tx":              "grüße\tx",
		"\x1b[1;31mred\x1b[0m":  "\x1b[1;31mred\x1b[0m",
		"\x1b]0;title\x07":      `\x1b]0;title\x07`,
		"\x1b[2J\x1b[31m\x1b[H": `\x1b[2J` + "\x1b[31m" + `\x1b[H`,
		"a\x00b\x7fc\u009b2J":   `a\x00b\x7fc\x9b2J`,
		"\x1b[31":               `\x1b[31`,
	} {
		if got := string(visible([]byte(in))); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}
