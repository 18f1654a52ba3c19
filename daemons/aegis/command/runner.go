package command

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"regexp"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/console"
	"github.com/xfeldman/aegisvm/daemons/aegis/progress"
	"github.com/xfeldman/aegisvm/daemons/aegis/run"
)

// streamFlags tell what a program gets of the caller.
type streamFlags struct {
	interactive, tty bool
}

func (f *streamFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.interactive, "interactive", "i", false, "pass standard input")
	f.addTTY(cmd, "give the program a terminal, which is this one")
}

func (f *streamFlags) addTTY(cmd *cobra.Command, text string) {
	cmd.Flags().BoolVarP(&f.tty, "tty", "t", false, text)
}

// errNoTerminal is what -t is told without a terminal.
var errNoTerminal = errors.New("-t: standard input is no terminal: leave -t out, or run it in a terminal")

// withRunner connects the caller's descriptors, terminal and signals, and
// aegisd, with package run.
func (a *app) withRunner(cmd *cobra.Command, f streamFlags, do func(context.Context, *run.Client) (int, error)) error {
	runner := run.Client{Stdout: a.out, Stderr: a.err, Notice: a.notice}
	if f.interactive {
		runner.Stdin = a.in
	}
	if f.tty {
		var err error
		if runner.Console, err = console.Open(a.in); err != nil {
			return usage(cmd, errNoTerminal)
		}
		defer runner.Console.Restore()
	}
	client, err := a.connect(cmd.Context(), run.Failed)
	if err != nil {
		return err
	}
	defer client.Close()
	// Writing to a pipe that nobody reads must be an error here, not the end:
	// the machine has to go first.
	signal.Ignore(syscall.SIGPIPE)
	signals := watched()
	defer signal.Stop(signals)
	runner.Aegis, runner.Signals = client, signals
	if progress.Possible(a.err) {
		runner.Terminal = a.err
	}
	code, err := do(cmd.Context(), &runner)
	if code == 0 && err == nil {
		return nil
	}
	return exitError{code: code, err: err}
}

var termName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$`)

// terminalOf asks for a terminal like the caller's; nil asks for none.
func terminalOf(c *console.Console) api.Terminal {
	if c == nil {
		return api.Terminal{}
	}
	t := api.Terminal{TTY: true}
	t.Rows, t.Cols = c.Size()
	if term := os.Getenv("TERM"); termName.MatchString(term) {
		t.Term = term
	}
	return t
}

// detachedTerminal asks for a terminal that nobody has yet, for which none is
// needed here.
func (a *app) detachedTerminal(tty bool) api.Terminal {
	if !tty {
		return api.Terminal{}
	}
	c, _ := console.Open(a.in)
	t := terminalOf(c)
	t.TTY = true
	return t
}

// watched tells the signals that the user sends, except those that who
// started us wants ignored, such as nohup.
func watched() chan os.Signal {
	c := make(chan os.Signal, 8)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	return c
}
