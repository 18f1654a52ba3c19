package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes that do not come from a program.
const (
	exitFailed = 1
	exitUsage  = 2
)

// exitError ends the CLI with a code and, if err is not nil, a line.
type exitError struct {
	code int
	err  error
	hint string
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// usage makes an error of the command line.
func usage(cmd *cobra.Command, err error) error {
	return exitError{code: exitUsage, err: err, hint: fmt.Sprintf("Run '%s --help' for usage.", cmd.CommandPath())}
}

// exit tells err, on one line, and returns its exit code.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	e, ok := errors.AsType[exitError](err)
	if !ok {
		e = exitError{code: exitFailed, err: err}
	}
	if e.err != nil {
		a.notice(e.err.Error())
	}
	if e.hint != "" {
		fmt.Fprintln(a.err, e.hint)
	}
	return e.code
}

// notice tells one line on stderr.
func (a *app) notice(line string) {
	fmt.Fprintf(a.err, "aegis: %s\n", strings.ReplaceAll(line, "\n", " "))
}
