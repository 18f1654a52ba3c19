// Package monitor holds what drivers with a monitor process share: the
// process itself, which dies with ours, and the console that the guest writes
// to. It knows no particular monitor and trusts nothing that one says.
package monitor

import (
	"strings"
	"unicode"
)

// FirstFile is the descriptor that the first inherited file has in the
// monitor; the others follow.
const FirstFile = 3

// maxTail is how much of the end of an output is kept to tell what happened.
const maxTail = 8 << 10

// maxPrintable is the longest foreign text in a message, in characters.
const maxPrintable = 500

// Printable makes foreign text fit for one line of a message: control
// characters go, and what is too long is cut.
func Printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > maxPrintable {
		s = string(r[:maxPrintable]) + "..."
	}
	return strings.TrimSpace(s)
}

// tail keeps the last maxTail bytes written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// lines returns the last n lines as one.
func (t *tail) lines(n int) string {
	all := strings.Split(strings.TrimSpace(string(t.b)), "\n")
	return Printable(strings.Join(all[max(0, len(all)-n):], "; "))
}
