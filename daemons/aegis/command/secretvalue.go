package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
)

// secretValue gets a value from where the arguments of `secret set` say.
func (a *app) secretValue(ctx context.Context, file string, args []string) (value string, err error) {
	switch {
	case file != "":
		value, err = readFile(file)
	case len(args) == 2 && args[1] != "-":
		a.notice("warning: a value on the command line is seen by every user of this host and kept by the shell: leave it out to be asked, or pass it on standard input")
		value = args[1]
	case len(args) == 1 && term.IsTerminal(int(a.in.Fd())):
		value, err = a.ask(ctx, "Value of "+args[0]+": ")
	default:
		value, err = readAll(ctx, a.in)
		value = strings.TrimSuffix(value, "\n")
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("value: %w", err)
	case value == "":
		return "", fmt.Errorf("secret %s: its value is empty: give one, or delete the secret", args[0])
	}
	return value, nil
}

func readFile(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return limited(f)
}

// limited reads no more than it takes to see that it is too much.
func limited(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, api.MaxSecret+2))
	return string(text), err
}

// readAll reads a value to its end, or until ctx ends.
func readAll(ctx context.Context, r io.Reader) (string, error) {
	return unlessEnded(ctx, func() (string, error) { return limited(r) })
}

// ask asks for a line that is not shown. A signal meanwhile must not leave a
// terminal that shows nothing.
func (a *app) ask(ctx context.Context, prompt string) (string, error) {
	fd := int(a.in.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	defer term.Restore(fd, before)
	// Before the prompt: who sees it may type at once.
	if err := silence(fd); err != nil {
		return "", err
	}
	fmt.Fprint(a.err, prompt)
	defer fmt.Fprintln(a.err)
	return unlessEnded(ctx, func() (string, error) {
		line, err := term.ReadPassword(fd)
		return string(line), err
	})
}

// silence ends the echo of a terminal.
func silence(fd int) error {
	state, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, setTermios, state)
}

// unlessEnded is read, given up when ctx ends. Then read is left to the end of
// the process, because nothing wakes it.
func unlessEnded(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := read()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
		return "", errors.New("interrupted")
	}
}
