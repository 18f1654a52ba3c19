package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/follow"
)

// until is the flag of wait.
type until api.Until

func (u *until) String() string { return string(*u) }
func (u *until) Type() string   { return "stopped|running|gone" }

func (u *until) Set(s string) error {
	switch api.Until(s) {
	case api.UntilStopped, api.UntilRunning, api.UntilGone:
		*u = until(s)
		return nil
	}
	return errors.New("expected stopped, running or gone")
}

func (a *app) instanceWait() *cobra.Command {
	u, quiet := until(api.UntilStopped), false
	cmd := &cobra.Command{
		Use:   "wait NAME...",
		Short: "Wait for instances and print the exit codes of their programs",
		Long: `Wait for instances, one after the other, and print the exit code of each
program, or a dash where there is none.

stopped is the end: at rest, and no restart due. An instance whose machine
failed makes it fail, with the reason.

It goes on when aegisd is started again, which it waits for a minute.`,
		Args: someNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				w := a.waiter(aegis)
				return each(args, func(name string) error { return a.wait(ctx, w, name, api.Until(u), quiet) })
			})
		},
	}
	cmd.Flags().Var(&u, "until", "what to wait for")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

// waiter waits over restarts of aegisd.
func (a *app) waiter(aegis api.Aegis) *follow.Waiter {
	return &follow.Waiter{Reader: follow.Reader{Aegis: aegis, Notice: a.notice}}
}

func (a *app) wait(ctx context.Context, w *follow.Waiter, name string, until api.Until, quiet bool) error {
	in, err := w.Wait(ctx, name, until)
	switch {
	case err != nil:
		return err
	case in.Phase == api.PhaseFailed:
		return fmt.Errorf("instance %s failed: %s", name, in.LastError)
	case quiet || until == api.UntilRunning:
		return nil
	case in.ExitCode == nil:
		return a.say("-\n")
	}
	return a.say("%d\n", exitStatus(in))
}

// exitStatus is how a program ended, as a shell has it.
func exitStatus(in api.Instance) int {
	if in.ExitSignal != 0 {
		return 128 + in.ExitSignal
	}
	return *in.ExitCode
}

// exitText says it in words.
func exitText(in api.Instance) string {
	switch {
	case in.ExitCode == nil:
		return "its program has not ended"
	case in.ExitSignal != 0:
		return fmt.Sprintf("killed by signal %d", in.ExitSignal)
	default:
		return fmt.Sprintf("exited with code %d", *in.ExitCode)
	}
}
