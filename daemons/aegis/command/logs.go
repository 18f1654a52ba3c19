package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

// exitInterrupted is how a command ends that only the user ends.
const exitInterrupted = 130

// logsFlags are the flags of logs.
type logsFlags struct {
	follow, timestamps bool
	since, until       moment
	tail               int
	source, execID     string
	out                format
}

func (a *app) logs() *cobra.Command {
	f := logsFlags{out: "text"}
	cmd := &cobra.Command{
		Use:   "logs [flags] NAME",
		Short: "Print what an instance has printed",
		Long: `Print what an instance has printed: what its program wrote to stdout goes to
stdout; what it wrote to stderr, and what aegisd has to say of it, to stderr.

The log is there as long as the instance is, in whatever state. An instance
that was started attached, as by 'aegis run', gave its output to that client
and not to the log. -f ends when the instance is deleted, and goes on when
aegisd is restarted.

A time is written as 2026-01-02T15:04:05Z, as 2026-01-02 15:04:05 or 2026-01-02
in local time, or as a duration before now, such as 90s or 1h30m.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(cmd, errors.New("no name: expected the name or id of an instance, such as: aegis logs web"))
			case len(args) > 1:
				return usage(cmd, fmt.Errorf("unexpected argument %q: %s takes one name", args[1], cmd.CommandPath()))
			case f.tail < 0:
				return usage(cmd, fmt.Errorf("tail of %d lines: expected 0 or more", f.tail))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.printLogs(cmd, f, args[0]) },
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what comes, until the instance is deleted")
	flags.Var(&f.since, "since", "nothing from before this time")
	flags.Var(&f.until, "until", "nothing from after this time")
	flags.IntVarP(&f.tail, "tail", "n", 0, "only so many of the last lines that are there")
	flags.StringVar(&f.source, "source", "", "only the lines of server (the program), exec or system (aegisd)")
	flags.StringVar(&f.execID, "exec-id", "", "only the lines of this exec")
	flags.BoolVarP(&f.timestamps, "timestamps", "t", false, "begin each line with its time")
	outputFlag(cmd, &f.out)
	sources := []cobra.Completion{string(api.LogServer), string(api.LogExec), string(api.LogSystem)}
	cmd.RegisterFlagCompletionFunc("source", cobra.FixedCompletions(sources, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (f logsFlags) query(cmd *cobra.Command) api.LogQuery {
	q := api.LogQuery{Follow: f.follow, Since: f.since.time, Until: f.until.time, Source: api.LogSource(f.source), ExecID: f.execID}
	if cmd.Flags().Changed("tail") {
		q.Tail = &f.tail
	}
	return q
}

func (a *app) printLogs(cmd *cobra.Command, f logsFlags, ref string) error {
	return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
		p := newPrinter(a, f)
		r := follow.Reader{Aegis: aegis, Notice: a.notice}
		err := r.Each(ctx, ref, f.query(cmd), p.print)
		err = errors.Join(err, p.end())
		if f.follow && ctx.Err() != nil {
			return exitError{code: exitInterrupted}
		}
		return err
	})
}

// moment is a flag with a time.
type moment struct{ time *time.Time }

func (m *moment) String() string { return "" }
func (m *moment) Type() string   { return "TIME" }

func (m *moment) Set(s string) error {
	if ago, err := time.ParseDuration(s); err == nil {
		t := time.Now().Add(-ago)
		m.time = &t
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			m.time = &t
			return nil
		}
	}
	return errors.New("expected a time such as 2026-01-02T15:04:05Z, or a duration before now such as 90s")
}
