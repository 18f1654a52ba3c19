// Package console is the caller's terminal while a program in a machine has
// it: it makes it raw, tells its size, and gives it back as it was, whatever
// happens. It knows nothing of the program.
package console

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"
)

// ErrNone says that standard input is no terminal.
var ErrNone = errors.New("standard input is no terminal")

// Console is a terminal. Its methods may be called from several goroutines.
type Console struct {
	in *os.File

	mu    sync.Mutex // guards the field below
	modes *term.State
}

// Open takes the terminal that in is, and changes nothing yet.
func Open(in *os.File) (*Console, error) {
	if in == nil || !term.IsTerminal(int(in.Fd())) {
		return nil, ErrNone
	}
	return &Console{in: in}, nil
}

// Size tells the rows and columns; zeros if nobody knows.
func (c *Console) Size() (rows, cols int) {
	cols, rows, err := term.GetSize(int(c.in.Fd()))
	if err != nil {
		return 0, 0
	}
	return rows, cols
}

// Raw hands every key on as it is, until Restore.
func (c *Console) Raw() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.modes != nil {
		return nil
	}
	modes, err := term.MakeRaw(int(c.in.Fd()))
	if err != nil {
		return fmt.Errorf("making the terminal raw: %w", err)
	}
	c.modes = modes
	return nil
}

// Restore gives the terminal back as Raw found it. It may be called at any
// time, and again; without a console it does nothing.
func (c *Console) Restore() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.modes != nil {
		_ = term.Restore(int(c.in.Fd()), c.modes) // nobody is left to tell
		c.modes = nil
	}
}

// Guard restores the terminal, if there is one, before a panic of its
// goroutine ends the process; it must be deferred.
func (c *Console) Guard() {
	if r := recover(); r != nil {
		c.Restore()
		panic(r)
	}
}

// Resized tells that the size may have changed, until stop is called.
func (c *Console) Resized() (changes <-chan os.Signal, stop func()) {
	s := make(chan os.Signal, 1)
	signal.Notify(s, syscall.SIGWINCH)
	return s, func() { signal.Stop(s) }
}
