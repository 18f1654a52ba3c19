package logs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

// FuzzReading reads a file that may hold anything: the readers end, what is
// appended behind it is read, and both ways of reading agree.
func FuzzReading(f *testing.F) {
	whole := `{"ts":"2026-01-02T03:04:05Z","stream":"stdout","line":"x","source":"server","boot":1,"offset":2}` + "\n"
	for _, seed := range []string{
		"", "\n", whole, whole + whole[:40], "{}\n" + whole, strings.Repeat("\x00", 5000), whole + "\x00\n" + whole,
		`{"ts":"2026-01-02T03:04:05Z","stream":"stdin","line":"x","source":"server"}` + "\n", "[1,2]\nnull\n\"\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		h := newHome(t)
		dir := filepath.Join(h.dir, "inst-1")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "00000000000000000000.ndjson"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		l := h.open()
		l.Append(line("after"))
		forward := h.read(l, api.LogQuery{})
		if len(forward) == 0 || forward[len(forward)-1].Line != "after" {
			t.Fatalf("read %q", texts(forward))
		}
		n := bytes.Count(content, []byte("\n")) + 1
		tail := h.read(l, api.LogQuery{Tail: &n})
		records := func(entries []api.LogEntry) (n int) {
			for _, e := range entries {
				if !strings.Contains(e.Line, "cannot be read") {
					n++
				}
			}
			return n
		}
		if records(tail) != records(forward) {
			t.Errorf("forward %d records, backward %d", records(forward), records(tail))
		}
		if _, _, err := l.Offset(stdout); err != nil {
			t.Error(err)
		}
	})
}
