package monitor

import (
	"bytes"
	"io"
	"os"
)

// MaxConsole is how many bytes a guest may write to its console file. What
// comes later is read and dropped, so that a hostile guest neither fills the
// disk nor blocks.
const MaxConsole = 1 << 20

const notice = "\n[console ends here: the guest wrote more than 1 MiB]\n"

// panicWords begin what Linux says when it panics.
var panicWords = []byte("Kernel panic - not syncing")

// Console copies what a guest writes to its console file and remembers a
// panic.
type Console struct {
	file     *os.File
	left     int
	tail     tail
	panicked string
	done     chan struct{}
}

// NewConsole makes a console on a file, which may be nil and stays the
// caller's.
func NewConsole(f *os.File) *Console {
	return &Console{file: f, left: MaxConsole, done: make(chan struct{})}
}

// Copy runs until r ends, once.
func (c *Console) Copy(r io.Reader) {
	defer close(c.done)
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		c.take(buf[:n])
		if err != nil {
			return
		}
	}
}

func (c *Console) take(b []byte) {
	c.tail.Write(b)
	if c.panicked == "" {
		c.panicked = panicLine(c.tail.b)
	}
	if c.file == nil || c.left == 0 {
		return
	}
	kept := b[:min(len(b), c.left)]
	c.left -= len(kept)
	if c.left == 0 {
		kept = append(bytes.Clone(kept), notice...)
	}
	if _, err := c.file.Write(kept); err != nil {
		c.left = 0 // a full disk costs the console, not the machine
	}
}

// Panic waits until the console has ended and returns the line of the
// kernel's panic, "" if there was none.
func (c *Console) Panic() string {
	<-c.done
	if c.panicked != "" {
		return c.panicked
	}
	if i := bytes.Index(c.tail.b, panicWords); i >= 0 {
		return Printable(string(c.tail.b[i:])) // the guest died in mid-line
	}
	return ""
}

// panicLine finds the complete line of a kernel panic.
func panicLine(b []byte) string {
	i := bytes.Index(b, panicWords)
	if i < 0 {
		return ""
	}
	line, _, whole := bytes.Cut(b[i:], []byte("\n"))
	if !whole {
		return ""
	}
	return Printable(string(line))
}
