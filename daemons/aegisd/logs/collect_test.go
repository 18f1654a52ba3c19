package logs_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
)

// source gives what it reads and notes what is stored.
type source struct {
	io.Reader
	stored []uint64
	refuse error
}

func (s *source) Stored(before uint64) error {
	s.stored = append(s.stored, before)
	return s.refuse
}

var stdout = logs.Stream{Boot: 7, Name: api.LogStdout, Source: api.LogServer}

// bytesOf puts the entries of a stream together again.
func bytesOf(entries []api.LogEntry) []byte {
	var b []byte
	for _, e := range entries {
		b = append(b, e.Bytes()...)
		if !e.Partial {
			b = append(b, '\n')
		}
	}
	return b
}

func TestWhatAProcessPrintsSurvivesTheLog(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", api.MaxLine/16)
	for name, text := range map[string]string{
		"nothing":             "",
		"lines":               "one\ntwo\n",
		"no newline":          "prompt: ",
		"empty lines":         "\n\n\n",
		"carriage returns":    "a\r\nb\rc\n",
		"NUL":                 "a\x00b\n\x00\n",
		"no UTF-8":            "a\xffb\n\xc3\n\xed\xa0\x80\n",
		"UTF-8":               "grüße\u2028\ufffd<&>\n",
		"as long as can be":   long + "\n",
		"a byte longer":       long + "x\n",
		"twice as long":       long + long,
		"no newline for long": strings.Repeat("x", 10*api.MaxLine),
		"NULs for long":       strings.Repeat("\x00", 300_000),
		"no UTF-8 for long":   strings.Repeat("\xff\x00", 100_000) + "\n",
		"UTF-8 for long":      strings.Repeat("ü", 50_000) + "\n",
		"controls":            strings.Repeat("\x1b[31m\x07\x7f", 20_000),
	} {
		for _, way := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.HalfReader, iotest.DataErrReader} {
			h := newHome(t)
			l := h.open()
			s := &source{Reader: way(strings.NewReader(text))}
			at, err := l.Collect(stdout, s, 0)
			if !errors.Is(err, io.EOF) || at != uint64(len(text)) || at > 0 && s.stored[len(s.stored)-1] != at {
				t.Errorf("%s: collected up to %d, stored %v, %v", name, at, s.stored, err)
			}
			got := h.read(l, api.LogQuery{})
			if !bytes.Equal(bytesOf(got), []byte(text)) {
				t.Errorf("%s: %.200q came back", name, bytesOf(got))
			}
			for _, e := range got {
				if len(e.Bytes()) > api.MaxLine {
					t.Errorf("%s: a line of %d bytes", name, len(e.Bytes()))
				}
				if strings.HasPrefix(name, "UTF-8") && e.Raw != nil {
					t.Errorf("%s: a character was torn", name)
				}
			}
		}
	}
}

func TestASourceThatBreaksLeavesNothingOver(t *testing.T) {
	h := newHome(t)
	l := h.open()
	broken := errors.New("broken")
	at, err := l.Collect(stdout, &source{Reader: io.MultiReader(strings.NewReader("one\ntw"), iotest.ErrReader(broken))}, 100)
	if !errors.Is(err, broken) || at != 106 {
		t.Errorf("collected up to %d, %v", at, err)
	}
	if at, err = l.Collect(stdout, &source{Reader: strings.NewReader("o\n")}, at); at != 108 {
		t.Errorf("then up to %d, %v", at, err)
	}
	got := h.read(l, api.LogQuery{})
	if diff := cmp.Diff([]string{"one", "tw", "o"}, texts(got)); diff != "" || !got[1].Partial || got[2].Partial {
		t.Errorf("%s%+v", diff, got)
	}
	refused := errors.New("refused")
	if _, err := l.Collect(stdout, &source{Reader: strings.NewReader("x\ny\n"), refuse: refused}, at); !errors.Is(err, refused) {
		t.Errorf("a source that cannot be told: %v", err)
	}
}

func TestALogKnowsHowMuchOfAStreamItHas(t *testing.T) {
	h := newHome(t)
	l := h.open()
	want := func(s logs.Stream, offset uint64, known bool) {
		t.Helper()
		got, there, err := h.open().Offset(s)
		if got != offset || there != known || err != nil {
			t.Errorf("%+v: %d %v, %v", s, got, there, err)
		}
	}
	want(stdout, 0, false)
	stderr, exec, next := stdout, stdout, stdout
	stderr.Name, exec.ExecID, exec.Source, next.Boot = api.LogStderr, "e1", api.LogExec, 8
	for _, c := range []struct {
		s    logs.Stream
		at   uint64
		text string
	}{{stdout, 0, "one\n"}, {stderr, 50, "problem\n"}, {exec, 0, "exec"}, {stdout, 4, "two\nthree\n"}} {
		l.Append(logs.System(api.LogStdout, "in between"))
		l.Collect(c.s, &source{Reader: strings.NewReader(c.text)}, c.at)
	}
	want(stdout, 14, true)
	want(stderr, 58, true)
	want(exec, 4, true)
	want(next, 0, false)
	l.Collect(next, &source{Reader: strings.NewReader("x\n")}, 0)
	want(next, 2, true)
	want(stdout, 14, true)
}

// A writer that is killed at any byte of its file, and goes on with the offset
// that the log tells, loses nothing and writes nothing twice.
func TestAWriterThatIsKilledAnywhereGoesOnWhereItWas(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		h := newHome(t)
		text := make([]byte, 0, 20000)
		for len(text) < 20000 {
			text = append(text, "\xff"+strings.Repeat("x", rng.IntN(200))+"\n"...)
		}
		for life := 0; ; life++ {
			l := h.open()
			at, _, err := l.Offset(stdout)
			if err != nil || at > uint64(len(text)) {
				t.Fatalf("offset %d, %v", at, err)
			}
			if at == uint64(len(text)) {
				if got := bytesOf(h.read(l, api.LogQuery{})); !bytes.Equal(got, text) {
					t.Errorf("%d bytes of %d came back, or others", len(got), len(text))
				}
				break
			}
			n := min(uint64(1+rng.IntN(6000)), uint64(len(text))-at)
			l.Collect(stdout, &source{Reader: bytes.NewReader(text[at : at+n])}, at)
			path := h.files()[0]
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if life < 20 { // what the last write left
				os.Truncate(path, info.Size()-rng.Int64N(min(info.Size(), 3000)))
			}
		}
	}
}

func TestMuchOutputIsBoundedOnDisk(t *testing.T) {
	h := newHome(t)
	h.config.FileSize = 64 << 10
	l := h.open()
	if _, err := l.Collect(stdout, &source{Reader: io.LimitReader(zeros{}, 20<<20)}, 0); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var total int64
	for _, f := range h.files() {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > 3*(128<<10) {
		t.Errorf("%d bytes on disk", total)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func TestALogThatCannotBeWrittenStopsNobodyAndSaysSo(t *testing.T) {
	h := newHome(t)
	if err := os.WriteFile(h.dir, nil, 0o600); err != nil { // in the folder's place
		t.Fatal(err)
	}
	l := h.open()
	s := &source{Reader: strings.NewReader("one\ntwo\n")}
	if at, err := l.Collect(stdout, s, 0); at != 8 || !errors.Is(err, io.EOF) {
		t.Errorf("collected up to %d, %v", at, err)
	}
	if err := os.Remove(h.dir); err != nil {
		t.Fatal(err)
	}
	l.Append(line("three"), line("four"))
	got := texts(h.read(l, api.LogQuery{}))
	want := []string{"[aegis] 2 lines with 6 bytes are missing here: they could not be written: not a directory", "three", "four"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
