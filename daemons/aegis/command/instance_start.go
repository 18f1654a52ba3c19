package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instanceStart() *cobra.Command {
	f := runFlags{env: newVariables()}
	cmd := &cobra.Command{
		Use:   "start [flags] NAME... | start [flags] -- COMMAND [ARG...]",
		Short: "Start instances, or a new one that stays",
		Long: `Start instances, or a new one that stays.

With names it starts instances that are there, also disabled ones. With a
command it makes a new one and starts it in the background; where --name is that
of an instance at rest with the same command, that one is started again. The
program has no standard input, but with -t a terminal, for 'aegis attach'.

It returns when the program runs, and fails with the reason when it does not
come to that; the instance stays in either case. --no-wait returns at once.`,
		Example: `  aegis instance start --name web --restart always -- python3 -m http.server
  aegis instance start web`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case dash > 0:
				return usage(cmd, fmt.Errorf("unexpected argument %q before --: name the instance with --name", args[0]))
			case dash == 0 && len(args) > 0:
				return a.startNew(cmd, f, args, exitFailed)
			case dash < 0 && len(args) == 0 && f.life.kit != "":
				return a.startNew(cmd, f, nil, exitFailed)
			case dash == 0:
				return usage(cmd, errors.New("no command after --: expected a program and its arguments"))
			default:
				return a.startNamed(cmd, f, args)
			}
		},
	}
	f.streamFlags.addTTY(cmd, "give the program a terminal, which aegis attach connects with")
	f.addFlags(cmd)
	f.out.addFlags(cmd)
	f.addNoWait(cmd)
	return cmd
}

// startNamed starts instances that are there.
func (a *app) startNamed(cmd *cobra.Command, f runFlags, names []string) error {
	if f.name != "" {
		names = append(names, f.name)
	}
	var odd error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if !slices.Contains([]string{"name", "output", "quiet", "no-wait"}, flag.Name) {
			odd = fmt.Errorf("--%s without a command: it is for a new instance: expected -- COMMAND [ARG...]", flag.Name)
		}
	})
	if odd != nil {
		return usage(cmd, odd)
	}
	if err := someNames(cmd, names); err != nil {
		return err
	}
	return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
		return each(names, func(name string) error {
			in, err := aegis.Start(ctx, name)
			if err == nil {
				in, err = a.started(ctx, f, aegis, in)
			}
			if err != nil {
				return err
			}
			return a.printStarted(in, f.out)
		})
	})
}

// startNew makes an instance that stays; code is the exit code of a failure.
func (a *app) startNew(cmd *cobra.Command, f runFlags, argv []string, code int) error {
	spec, err := f.spec(cmd, argv)
	if err != nil {
		return exitError{code: code, err: err}
	}
	spec.Terminal = a.detachedTerminal(f.tty)
	ctx, stop := interruptible(cmd)
	defer stop()
	client, err := a.connect(ctx, code)
	if err != nil {
		return err
	}
	defer client.Close()
	in, err := client.Create(ctx, api.Caller{}, spec)
	if err == nil {
		in, err = a.started(ctx, f, client, in)
	}
	if err != nil {
		return exitError{code: code, err: err}
	}
	return a.printStarted(in, f.out)
}

// started waits until an instance that starts in the background runs, or has
// run; what keeps it from running is the error.
func (a *app) started(ctx context.Context, f runFlags, aegis api.Aegis, in api.Instance) (api.Instance, error) {
	if f.noWait || in.Phase == api.PhaseRunning {
		return in, nil
	}
	w := a.waiter(aegis)
	w.Met = true
	now, err := w.Wait(ctx, in.ID, api.UntilRunning)
	if api.CodeOf(err) == api.BadState { // it is at rest already
		now, err = aegis.Get(ctx, in.ID)
	}
	if ctx.Err() != nil {
		return in, fmt.Errorf("instance %s goes on starting in the background: %w", in.ID, err)
	}
	if err == nil && now.Phase == api.PhaseFailed {
		err = fmt.Errorf("instance %s: %s", cmp.Or(in.Handle, in.ID), now.LastError)
	}
	return now, err
}

func (a *app) printStarted(in api.Instance, out listing) error {
	if done, err := a.special(out, in, in); done {
		return err
	}
	word := "started"
	if in.Starts > 1 {
		word = "restarted"
	}
	text := fmt.Sprintf("Instance %s: %s\n", word, in.ID)
	if in.Handle != "" {
		text += "Handle: " + in.Handle + "\n"
	}
	return a.say("%s", text)
}
