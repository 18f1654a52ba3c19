package run

import (
	"errors"
	"os"
)

// errLeft says that the user left a program that goes on.
var errLeft = errors.New("left the program, which goes on")

// The keys that leave a detached program on a terminal, one after the other,
// are those that other tools have for it.
const (
	ctrlP = 0x10
	ctrlQ = 0x11
)

// typeInto passes the caller's input on to the program's terminal, if it has
// one. The input's end ends nothing there: that would be a hangup. What it
// returns is closed when the user typed the keys that leave.
func (c *Client) typeInto(p program) (left <-chan struct{}) {
	terminal := p.streams.Terminal
	if terminal == nil || c.Stdin == nil {
		return nil
	}
	leave := make(chan struct{})
	go func() { // ends at the next byte after the end of the terminal, or with the process
		defer c.Console.Guard()
		if !p.detached || c.Console == nil {
			_ = copyStream(terminal, c.Stdin)
		} else if copyKeys(terminal, c.Stdin) {
			close(leave)
		}
	}()
	return leave
}

// copyKeys copies src to dst until either ends, or until the keys that leave
// were read (true).
func copyKeys(dst, src *os.File) (left bool) {
	buf, armed := make([]byte, 4<<10), false
	for {
		n, err := src.Read(buf)
		var out []byte
		for _, key := range buf[:n] {
			if armed && key == ctrlQ {
				_, _ = dst.Write(out) // it goes on without us
				return true
			}
			if armed {
				out = append(out, ctrlP)
			}
			if armed = key == ctrlP; !armed {
				out = append(out, key)
			}
		}
		if _, werr := dst.Write(out); err != nil || werr != nil {
			return false
		}
	}
}
