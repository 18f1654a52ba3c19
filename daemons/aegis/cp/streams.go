package cp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unicode"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/guest/proto/archive"
)

// source is the bytes that come from a guest, counted.
type source struct {
	client *Client
	r      io.Reader
	n      int64
	ended  bool // there are no more
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.n += int64(n)
	s.ended = s.ended || err != nil
	s.client.moved(n)
	return n, err
}

// sink is where the bytes go that a guest gets.
type sink struct {
	client *Client
	w      io.Writer
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.client.moved(n)
	if err != nil {
		err = refusedError{err}
	}
	return n, err
}

func (c *Client) moved(n int) {
	if c.Moved != nil {
		c.Moved(n)
	}
}

// refusedError says that the guest takes no more; why is the guest's to say.
type refusedError struct{ error }

func (e refusedError) Unwrap() error { return e.error }

// whole tells whether an archive was written or read to its end.
func whole(err error) bool {
	_, incomplete := errors.AsType[*archive.Incomplete](err)
	return err == nil || incomplete
}

// whatIsMissing leaves of an error what an archive lacks.
func whatIsMissing(err error) error {
	if lost, ok := errors.AsType[*archive.Incomplete](err); ok {
		return lost
	}
	return nil
}

// join makes one line of two errors, of which either may be nil.
func join(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

// said is what a guest says that went wrong, fit for a line.
func said(end proto.End) error {
	const most = 1000
	n := 0
	text := strings.Map(func(r rune) rune {
		if n++; n > most {
			return -1
		}
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, end.Message)
	if text == "" {
		text = "the guest gave the copy up and does not say why"
	}
	return errors.New(text)
}

// closeWrite ends what is written to a stream.
func closeWrite(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { syscall.Shutdown(int(fd), syscall.SHUT_WR) })
	}
}

// absolute is a path from the root on that means what path means here. A slash
// or "/." at its end stays.
func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if path == "" || err != nil {
		return path
	}
	switch last := path[strings.LastIndex(path, "/")+1:]; {
	case last == ".":
		return strings.TrimSuffix(abs, "/") + "/."
	case last == "" && abs != "/":
		return abs + "/"
	}
	return abs
}
