package command

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/run"
)

// runFlags are the flags of run.
type runFlags struct {
	image, name, workdir, user string
	pull                       pullPolicy
	streamFlags
	workspace      workspaceFlags
	network        networkFlags
	cpus           processors
	memory, disk   memory
	env            variables
	timeout        time.Duration
	life           lifeFlags
	detach, noWait bool
	out            listing // of --detach
}

func (a *app) run() *cobra.Command {
	f := runFlags{env: newVariables()}
	cmd := &cobra.Command{
		Use:   "run [flags] [--] COMMAND [ARG...]",
		Short: "Run a program in a new machine and throw the machine away",
		Long: `Run a program in a new machine and throw the machine away.

With --detach it runs in the background, as an instance that stays until 'aegis
instance delete' or 'prune', so that its end can be asked for: it is what 'aegis
instance start' makes.

The exit code is the program's; 124 when it ran out of --timeout; 125 when the
machine failed; 126 or 127 when the program could not be run; 128 + n when
signal n ended it (141 when nobody reads the output any more). The first
Ctrl-C goes to the program, the second one tears the machine down. With -t every
key goes to the program, as on a terminal of its own.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && f.life.kit == "" {
				return usage(cmd, errors.New("no command: expected a program and its arguments, such as: aegis run -- echo hello"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.runProgram(cmd, f, args) },
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	f.streamFlags.addFlags(cmd)
	flags.BoolVarP(&f.detach, "detach", "d", false, "do not wait: run it in the background as an instance that stays")
	f.addFlags(cmd)
	f.out.addFlags(cmd)
	f.addNoWait(cmd)
	return cmd
}

func (f *runFlags) addNoWait(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.noWait, "no-wait", false, "in the background: do not wait until the program runs")
}

// addFlags gives a command the flags of a new instance.
func (f *runFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.image, "image", "", "image: a name such as debian:12, the path of an OCI layout, oci:PATH[:TAG], or a digest (default the base image)")
	flags.Var(&f.pull, "pull", "when to ask the registry for an image with a name: missing, always or never (default missing)")
	flags.StringVar(&f.name, "name", "", "name of the machine")
	flags.Var(&f.cpus, "cpus", "virtual processors (default 1)")
	flags.Var(&f.memory, "memory", "memory in MiB, or such as 1G (default 512)")
	flags.Var(&f.disk, "disk", "size of the machine's own disk in MiB, or such as 50G; it takes what is written only (default 16G)")
	f.env.addFlags(cmd)
	flags.StringVar(&f.workdir, "workdir", "", "working directory in the machine (default the image's)")
	flags.StringVar(&f.user, "user", "", "NAME, UID, NAME:GROUP or UID:GID (default the image's)")
	flags.DurationVar(&f.timeout, "timeout", 0, "end the program after this time, such as 90s (default never)")
	for _, hidden := range []string{"cpus", "memory", "disk", "env"} {
		flags.Lookup(hidden).DefValue = "" // the texts say it
	}
	f.life.addFlags(cmd)
	f.workspace.addFlags(cmd)
	f.network.addFlags(cmd)
}

// runProgram connects the terminal, the signals and aegisd with package run.
func (a *app) runProgram(cmd *cobra.Command, f runFlags, argv []string) error {
	if err := f.checkDetach(cmd); err != nil {
		return usage(cmd, err)
	}
	if f.detach {
		return a.startNew(cmd, f, argv, run.Failed)
	}
	spec, err := f.spec(cmd, argv)
	if err != nil {
		return exitError{code: run.Failed, err: err}
	}
	return a.withRunner(cmd, f.streamFlags, func(ctx context.Context, runner *run.Client) (int, error) {
		spec.Terminal = terminalOf(runner.Console)
		return runner.Run(ctx, spec)
	})
}

// checkDetach refuses flags that make no sense together.
func (f runFlags) checkDetach(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	switch {
	case f.detach && f.interactive:
		return errors.New("both --detach and --interactive: a program in the background has no standard input: give one")
	case f.detach:
		return nil
	case given("output") || f.out.quiet:
		return errors.New("--output and --quiet are for --detach: without it the program's output is all there is")
	case f.noWait:
		return errors.New("--no-wait is for --detach: without it the program is what is waited for")
	case f.life.restart != "" && f.life.restart != string(api.RestartNever):
		return errors.New("--restart is for --detach: without it the machine goes when the program ends")
	}
	return nil
}

// spec turns the flags into what aegisd is asked for. Zeros mean a default
// there, so those that the caller wrote are refused here.
func (f runFlags) spec(cmd *cobra.Command, argv []string) (api.InstanceSpec, error) {
	image, err := imageRef(f.image)
	given := cmd.Flags().Changed
	switch {
	case err != nil:
		return api.InstanceSpec{}, err
	case given("memory") && f.memory <= 0:
		return api.InstanceSpec{}, fmt.Errorf("memory of %d MiB: a guest needs at least 128", f.memory)
	case given("disk") && f.disk <= 0:
		return api.InstanceSpec{}, fmt.Errorf("disk of %d MiB: at least 256 are needed", f.disk)
	case given("cpus") && f.cpus <= 0:
		return api.InstanceSpec{}, fmt.Errorf("%d cpus: a guest needs at least 1", f.cpus)
	case given("timeout") && f.timeout < time.Millisecond:
		return api.InstanceSpec{}, fmt.Errorf("timeout of %v: expected a millisecond or more, or no --timeout for none", f.timeout)
	}
	if err := readable(argv, f.env.literal); err != nil {
		return api.InstanceSpec{}, err
	}
	workspace, err := f.workspace.resolve()
	if err != nil {
		return api.InstanceSpec{}, err
	}
	spec := api.InstanceSpec{
		Workspace: workspace, NetworkSpec: f.network.spec(),
		Handle: f.name, Command: argv, ImageRef: image, Pull: api.PullPolicy(f.pull), Env: f.env.literal, Workdir: f.workdir, User: f.user,
		MemoryMB: int(f.memory), VCPUs: int(f.cpus), DiskMB: int(f.disk), TimeoutMS: f.timeout.Milliseconds(),
		Secrets: f.env.secrets(), EnvSecrets: f.env.renamed(),
	}
	f.life.apply(&spec)
	return spec, nil
}

// readable refuses what the API, being JSON, could not carry unchanged.
func readable(argv []string, env environment) error {
	for i, arg := range argv {
		if !utf8.ValidString(arg) {
			return fmt.Errorf("argument %d, %q: expected UTF-8: pass other bytes through stdin (-i) or a file", i, arg)
		}
	}
	for name, value := range env {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return fmt.Errorf("environment variable %q: expected UTF-8: pass other bytes through stdin (-i) or a file", name)
		}
	}
	return nil
}
