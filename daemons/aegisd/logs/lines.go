package logs

import (
	"bytes"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// splitter makes lines of a stream of bytes. A line that is longer than
// api.MaxLine comes in several pieces.
type splitter struct {
	rest []byte // of the line that has not ended
}

// piece is a line, or a part of one.
type piece struct {
	text []byte
	// size is how many bytes of the stream it stands for, the newline with it.
	size    int
	partial bool
}

// feed takes the next bytes and returns the pieces that are complete. Their
// text is valid until the next call.
func (s *splitter) feed(b []byte) (pieces []piece) {
	s.rest = append(s.rest, b...)
	at := 0
	for {
		rest := s.rest[at:]
		n := bytes.IndexByte(rest[:min(len(rest), api.MaxLine+1)], '\n')
		switch {
		case n >= 0:
			pieces = append(pieces, piece{text: rest[:n], size: n + 1})
			at += n + 1
		case len(rest) > api.MaxLine:
			n = cut(rest)
			pieces = append(pieces, piece{text: rest[:n], size: n, partial: true})
			at += n
		default:
			// A copy, because the pieces are in the old array.
			s.rest = append([]byte(nil), rest...)
			return pieces
		}
	}
}

// cut is where a long line is split: at api.MaxLine, or before the character
// that would be torn there.
func cut(b []byte) int {
	for i := api.MaxLine; i > api.MaxLine-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return i
		}
	}
	return api.MaxLine
}

// end gives what is left at the end of the stream.
func (s *splitter) end() []piece {
	rest := s.rest
	s.rest = nil
	if len(rest) == 0 {
		return nil
	}
	return []piece{{text: rest, size: len(rest), partial: true}}
}
