package command

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
)

// printer prints the entries of a log. Streams keep their order, as far as
// stdout and stderr of ours are one.
type printer struct {
	json, timestamps bool
	out, err         *sink
	last             *sink // that was printed to
}

// sink is a file that lines are printed to.
type sink struct {
	*bufio.Writer
	file     *os.File
	terminal bool
	open     bool // a line has been begun there, and has not ended
}

func newPrinter(a *app, f logsFlags) *printer {
	open := func(file *os.File) *sink {
		return &sink{Writer: bufio.NewWriterSize(file, 64<<10), file: file, terminal: term.IsTerminal(int(file.Fd()))}
	}
	return &printer{json: f.out == "json", timestamps: f.timestamps, out: open(a.out), err: open(a.err)}
}

// print prints entries and flushes.
func (p *printer) print(entries []api.LogEntry) error {
	for _, e := range entries {
		to := p.out
		if !p.json && (e.Stream == api.LogStderr || e.Source == api.LogSystem) {
			to = p.err
		}
		if err := p.turn(to, e); err != nil {
			return err
		}
		if p.json {
			p.encode(e)
			continue
		}
		p.line(to, e)
	}
	return p.flush()
}

// turn goes on with another file. A line that was begun for somebody else is
// ended.
func (p *printer) turn(to *sink, e api.LogEntry) error {
	if e.Source == api.LogSystem {
		to.close()
	}
	if p.last != nil && p.last != to {
		if to.terminal {
			p.last.close()
		}
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.last = to
	return nil
}

func (s *sink) close() {
	if s.open {
		s.WriteByte('\n')
		s.open = false
	}
}

func (p *printer) encode(e api.LogEntry) {
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.Encode(e) // flush tells what failed
}

// line prints an entry; of a long line only the first one gets a prefix.
func (p *printer) line(to *sink, e api.LogEntry) {
	if !to.open {
		if p.timestamps {
			to.WriteString(e.Time.Format("2006-01-02T15:04:05.000000000Z07:00") + " ")
		}
		to.WriteString(prefix(to.file, e.Source))
	}
	text := e.Bytes()
	if e.Source == api.LogSystem {
		text = bytes.TrimPrefix(text, []byte("[aegis] "))
	}
	if to.terminal {
		text = visible(text)
	}
	to.Write(text)
	if to.open = e.Partial; !to.open {
		to.WriteByte('\n')
	}
}

// prefix tells who wrote a line, unless it was the program itself.
func prefix(f *os.File, source api.LogSource) string {
	switch source {
	case api.LogSystem:
		return paint(f, yellow, "[system]") + " "
	case api.LogExec:
		return paint(f, cyan, "[exec]") + " "
	}
	return ""
}

const cyan colour = "36"

func (p *printer) flush() error {
	for _, s := range []*sink{p.out, p.err} {
		if err := s.Flush(); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
	}
	return nil
}

// end ends what has been begun on a terminal. In a file a line without its
// newline stays one.
func (p *printer) end() error {
	for _, s := range []*sink{p.out, p.err} {
		if s.terminal {
			s.close()
		}
	}
	return p.flush()
}

// colours are the sequences that do nothing to a terminal but colour it.
var colours = regexp.MustCompile(`\x1b\[[0-9;:]*m`)

// visible shows what a guest printed without letting it steer the terminal:
// characters that would are written out.
func visible(text []byte) []byte {
	var b strings.Builder
	rest := string(text)
	for rest != "" {
		at := colours.FindStringIndex(rest)
		if at == nil {
			at = []int{len(rest), len(rest)}
		}
		for _, r := range rest[:at[0]] {
			b.WriteString(shown(r))
		}
		b.WriteString(rest[at[0]:at[1]])
		rest = rest[at[1]:]
	}
	return []byte(b.String())
}

// shown is a character as it may be printed.
func shown(r rune) string {
	if r == '\t' || r == '\r' || r >= ' ' && r < 0x7f || r >= 0xa0 {
		return string(r)
	}
	return fmt.Sprintf(`\x%02x`, r)
}
