package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/console"
	"github.com/xfeldman/aegisvm/daemons/aegis/run"
)

// execFlags are the flags of exec.
type execFlags struct {
	streamFlags
	workdir, user, attach string
	env                   variables
	timeout               time.Duration
	detach, list          bool
	output                format
}

func (a *app) exec() *cobra.Command {
	f := execFlags{env: newVariables(), output: "text"}
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME [--] COMMAND [ARG...]",
		Short: "Run one more program in a machine that runs",
		Long: `Run one more program in a machine that runs.

The exit code is the program's, as that of run. The program has the environment,
directory and user of the machine's own one. It ends with us: when we go, however
we go, it is hung up. With --detach it goes on, its id is printed, and --attach ID
connects with it, again and again, and Ctrl-P Ctrl-Q leaves it; the last 256 KiB
of its output are kept in between, and all of it, unless it has a terminal, is in
the log: "aegis logs --exec-id ID NAME". "main" is the id of the machine's own program.

  aegis exec -it web -- sh
  aegis exec --detach -t web -- top      prints exec-...
  aegis exec --attach exec-... web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return usage(cmd, err)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case f.list:
				return a.listExecs(cmd, args[0], f.output)
			case f.attach != "":
				return a.attachExec(cmd, f, args[0])
			case f.detach:
				return a.detachExec(cmd, f, args)
			}
			return a.execProgram(cmd, f, args)
		},
	}
	f.addFlags(cmd)
	return cmd
}

func (f *execFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	f.streamFlags.addFlags(cmd)
	f.env.addFlags(cmd)
	flags.StringVar(&f.workdir, "workdir", "", "working directory in the machine (default that of its own program)")
	flags.StringVar(&f.user, "user", "", "NAME, UID, NAME:GROUP or UID:GID (default that of its own program)")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the program after this time, such as 90s (default never)")
	flags.BoolVar(&f.detach, "detach", false, "print the program's id and let it go on without us")
	flags.StringVar(&f.attach, "attach", "", "connect with the detached program of this `ID`")
	flags.BoolVar(&f.list, "list", false, "list the programs of the machine")
	outputFlag(cmd, &f.output)
	flags.Lookup("env").DefValue = "" // there is none
}

// check refuses what does not go together.
func (f *execFlags) check(cmd *cobra.Command, args []string) error {
	given := cmd.Flags().Changed
	special := ""
	for _, name := range []string{"list", "attach"} {
		if given(name) && special == "" {
			special = name
		}
	}
	switch {
	case len(args) == 0:
		return errors.New("no instance: expected its name or id, and a program, such as: aegis exec web -- ls")
	case given("output") && !f.list:
		return errors.New("-o without --list: a program's output is its own")
	case special != "":
		return f.checkSpecial(cmd, special, args)
	case f.detach && f.interactive && !f.tty:
		return errors.New("-i with --detach: a detached program gets its input from who attaches: use -t")
	case len(argvOf(args)) == 0:
		return fmt.Errorf("no command: expected a program after %s, such as: aegis exec %[1]s -- ls", args[0])
	case len(args) > 1 && args[1] != "--" && strings.HasPrefix(args[1], "-"):
		return fmt.Errorf("%q after the instance: flags go before %s, and a program after \"--\"", args[1], args[0])
	}
	return nil
}

// checkSpecial refuses what is for a new program only.
func (f *execFlags) checkSpecial(cmd *cobra.Command, special string, args []string) error {
	for _, name := range []string{"attach", "detach", "env", "secret", "workdir", "user", "timeout", "interactive", "tty"} {
		switch given := cmd.Flags().Changed(name); {
		case !given || name == special:
		case special == "list":
			return fmt.Errorf("--%s with --list: give one", name)
		case name != "interactive" && name != "tty":
			return fmt.Errorf("--%s with --attach: it is for a new program", name)
		}
	}
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q: --attach and --list take an instance only", args[1])
	}
	return nil
}

// argvOf is what follows the instance.
func argvOf(args []string) []string {
	argv := args[1:]
	if len(argv) > 0 && argv[0] == "--" {
		argv = argv[1:]
	}
	return argv
}

// spec turns the flags into what aegisd is asked for.
func (f *execFlags) spec(cmd *cobra.Command, args []string) (api.ExecSpec, error) {
	if cmd.Flags().Changed("timeout") && f.timeout < time.Millisecond {
		return api.ExecSpec{}, fmt.Errorf("timeout of %v: expected a millisecond or more, or no --timeout for none", f.timeout)
	}
	argv := argvOf(args)
	if err := readable(argv, f.env.literal); err != nil {
		return api.ExecSpec{}, err
	}
	return api.ExecSpec{
		Command: argv, Env: f.env.literal, Secrets: f.env.secrets(), EnvSecrets: f.env.renamed(), Workdir: f.workdir, User: f.user,
		Detach: f.detach, TimeoutMS: f.timeout.Milliseconds(),
	}, nil
}

func (a *app) execProgram(cmd *cobra.Command, f execFlags, args []string) error {
	spec, err := f.spec(cmd, args)
	if err != nil {
		return exitError{code: run.Failed, err: err}
	}
	return a.withRunner(cmd, f.streamFlags, func(ctx context.Context, runner *run.Client) (int, error) {
		spec.Terminal = terminalOf(runner.Console)
		return runner.Exec(ctx, args[0], spec)
	})
}

// attachExec gives a program that has a terminal the caller's, if there is
// one.
func (a *app) attachExec(cmd *cobra.Command, f execFlags, ref string) error {
	f.interactive = true
	if _, err := console.Open(a.in); err == nil {
		f.tty = true
	}
	return a.withRunner(cmd, f.streamFlags, func(ctx context.Context, runner *run.Client) (int, error) {
		return runner.Reattach(ctx, ref, f.attach)
	})
}

// detachExec starts a program and prints its id.
func (a *app) detachExec(cmd *cobra.Command, f execFlags, args []string) error {
	spec, err := f.spec(cmd, args)
	if err != nil {
		return exitError{code: run.Failed, err: err}
	}
	spec.Terminal = a.detachedTerminal(f.tty)
	ctx, stop := interruptible(cmd)
	defer stop()
	client, err := a.connect(ctx, run.Failed)
	if err != nil {
		return err
	}
	defer client.Close()
	id, _, err := client.Exec(ctx, args[0], spec)
	if err == nil {
		err = a.say("%s\n", id)
	}
	if err != nil {
		return exitError{code: run.Failed, err: err}
	}
	return nil
}

func (a *app) listExecs(cmd *cobra.Command, ref string, out format) error {
	return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
		all, err := aegis.Execs(ctx, ref)
		switch {
		case err != nil:
			return err
		case out == "json":
			return a.json(append([]api.ExecInfo{}, all...))
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tSTATE\tTTY\tSINCE\tCOMMAND")
		for _, e := range all {
			tty := map[bool]string{true: "tty", false: "-"}[e.TTY]
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.ID, execState(e), tty,
				e.StartedAt.Local().Format("2006-01-02 15:04:05"), commandText(e.Command))
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("writing the output: %w", err)
		}
		return nil
	})
}

// execState is the state of a program in one or two words.
func execState(e api.ExecInfo) string {
	switch {
	case e.ExitCode != nil && e.ExitSignal != 0:
		return fmt.Sprintf("signal %d", e.ExitSignal)
	case e.ExitCode != nil:
		return fmt.Sprintf("exited %d", *e.ExitCode)
	case e.Detached && !e.Attached:
		return "detached"
	default:
		return "running"
	}
}
