package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/daemons/aegis/cp"
	"github.com/xfeldman/aegisvm/daemons/aegis/progress"
)

// stream is the argument that means standard input or output.
const stream = "-"

// copyFlags are the flags of cp.
type copyFlags struct {
	archive, follow bool
	// from and to are SRC and DST.
	from, to place
}

// place is SRC or DST: a path here, or of an instance.
type place struct{ instance, path string }

func (a *app) copy() *cobra.Command {
	var f copyFlags
	cmd := &cobra.Command{
		Use:   "cp [flags] SRC DST",
		Short: "Copy files and folders from or to a machine that runs",
		Long: `Copy files and folders from or to a machine that runs.

One of SRC and DST is NAME:PATH, a path in the machine of that name, from its root
on; the other is a path here, or - for a tar archive on standard input or output.
Modes, times, symbolic and hard links are kept. A file goes into DST where that is
a folder, over it where it is a file, else DST is its new name, in a folder that is
there; a folder is copied likewise, and merged into one of its name. What a folder
SRC that ends in /. has in it is copied without the folder. In the machine all is
root's, here it is yours.

  aegis cp report.txt web:/tmp
  aegis cp web:/var/log ./logs
  tar c . | aegis cp - web:/srv
  aegis cp web:/etc - | tar tv`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := f.parse(args); err != nil {
				return usage(cmd, err)
			}
			return f.check(cmd, a)
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return a.runCopy(cmd, f) },
		ValidArgsFunction: completePlace,
	}
	cmd.Flags().BoolVarP(&f.archive, "archive", "a", false, "keep the numbers of owners and groups; to this host only root can, and keeps setuid bits then")
	cmd.Flags().BoolVarP(&f.follow, "follow-link", "L", false, "copy what SRC leads to where it is a symbolic link")
	return cmd
}

// parse takes SRC and DST apart.
func (f *copyFlags) parse(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments: expected SRC and DST, such as: aegis cp file web:/tmp", len(args))
	}
	f.from, f.to = placeOf(args[0]), placeOf(args[1])
	switch from, to := f.from.instance != "", f.to.instance != ""; {
	case from && to:
		return errors.New("both SRC and DST are in machines: copy to a folder here first, or through a pipe with -")
	case !from && !to:
		return errors.New("neither SRC nor DST is in a machine: write one as NAME:PATH")
	}
	for i, p := range []place{f.from, f.to} {
		switch {
		case p.path == "" && p.instance != "":
			return fmt.Errorf("%q: expected a path after the colon", args[i])
		case p.path == "":
			return errors.New(`"": expected a path, or - for a tar archive`)
		case p.instance != "" && !utf8.ValidString(p.path):
			return fmt.Errorf("%q: expected UTF-8 in the path of a machine: copy the folder that it is in", args[i])
		}
	}
	return nil
}

// placeOf tells NAME:PATH from a path here, which says by a slash or a dot in
// front that a colon in it is its own.
func placeOf(arg string) place {
	name, path, ok := strings.Cut(arg, ":")
	if !ok || strings.Contains(name, "/") || strings.HasPrefix(name, ".") || name == "" {
		return place{path: arg}
	}
	return place{instance: name, path: path}
}

// check refuses what cannot be done here, whatever the machine has.
func (f *copyFlags) check(cmd *cobra.Command, a *app) error {
	toHost := f.from.instance != ""
	switch {
	case toHost && f.to.path == stream && term.IsTerminal(int(a.out.Fd())):
		return usage(cmd, errors.New("a tar archive is not for a terminal: redirect standard output"))
	case !toHost && f.from.path == stream && term.IsTerminal(int(a.in.Fd())):
		return usage(cmd, errors.New("standard input is a terminal: expected a tar archive"))
	case f.from.path == stream && f.follow:
		return usage(cmd, errors.New("-L with a tar archive as SRC: it has its links already"))
	case f.to.path == stream && f.archive:
		return usage(cmd, errors.New("-a with a tar archive as DST: it has its owners anyway"))
	case toHost && f.archive && os.Geteuid() != 0:
		return usage(cmd, errors.New("-a: only root can give files to others here: leave -a out, or become root"))
	}
	return nil
}

func (a *app) runCopy(cmd *cobra.Command, f copyFlags) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	client, err := a.connect(ctx, exitFailed)
	if err != nil {
		return err
	}
	defer client.Close()
	c := &cp.Client{Aegis: client, Owner: f.archive, Follow: f.follow}
	if progress.Possible(a.err) {
		moved, stop := progress.Bytes(a.err, "copying")
		defer stop()
		c.Moved = moved
	}
	err = a.move(ctx, c, f)
	if sig, ok := errors.AsType[signalError](err); ok {
		return exitError{code: 128 + int(sig)}
	}
	return err
}

func (a *app) move(ctx context.Context, c *cp.Client, f copyFlags) error {
	switch {
	case f.to.path == stream:
		return c.ToWriter(ctx, f.from.instance, f.from.path, a.out)
	case f.from.path == stream:
		return c.FromReader(ctx, a.in, f.to.instance, f.to.path)
	case f.to.instance != "":
		return c.FromHost(ctx, f.from.path, f.to.instance, f.to.path)
	default:
		return c.ToHost(ctx, f.from.instance, f.from.path, f.to.path)
	}
}

// signalError says that the user has ended us.
type signalError syscall.Signal

func (e signalError) Error() string { return fmt.Sprintf("ended by signal %d", int(e)) }

// untilSignal gives a context that ends with the first signal of the user's,
// with that as its cause.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := watched()
	go func() { // ends with ctx
		select {
		case sig := <-signals:
			if n, ok := sig.(syscall.Signal); ok {
				cancel(signalError(n))
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// completePlace completes the name of a machine; the rest is files.
func completePlace(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) >= 2 || strings.ContainsAny(typed, "/:") || slices.ContainsFunc(args, func(a string) bool { return placeOf(a).instance != "" }) {
		return nil, cobra.ShellCompDirectiveDefault
	}
	found := suggest(cmd, instanceNames, typed)
	for i, name := range found {
		name, about, _ := strings.Cut(name, "\t")
		found[i] = name + ":\t" + about
	}
	files, _ := filepath.Glob(typed + "*")
	return append(found, files...), cobra.ShellCompDirectiveNoSpace
}
