package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instance() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "instance",
		Short: "Start, list, stop and delete instances that stay",
		Long: `Start, list, stop and delete instances that stay.

An instance is a machine with a disk of its own and a program. It keeps both
until it is deleted. NAME is its handle or its id.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.instanceStart(), a.instanceList(), a.instanceInfo(), a.instanceWait(), a.instanceRename(), a.instancePrune(),
		a.instanceSecrets(), a.instanceExpose(), a.instanceUnexpose(), a.instanceKeepalive())
	for _, v := range verbs {
		cmd.AddCommand(a.instanceVerb(v))
	}
	return cmd
}

// verb is a command that does one thing to each instance that is named.
type verb struct {
	name, short, long, done string
	do                      func(api.Aegis, context.Context, string) (api.Instance, error)
}

var verbs = []verb{
	{"stop", "Stop instances in order", `Stop instances in order: SIGTERM to their programs, 10 seconds of grace, then
the machine is powered off. Their restart policy does not start them again.`, "stopped", api.Aegis.Stop},
	{
		"restart", "Stop instances in order and start them again", `Stop instances in order and start them again in the background. One that is at
rest or disabled is started, too.`, "restarting", api.Aegis.Restart,
	},
	{
		"disable", "Stop instances and keep them from starting", `Stop instances in order and keep everything from starting them but enable,
start and restart.`, "disabled", api.Aegis.Disable,
	},
	{"enable", "Take a disable back", "Take a disable back. Nothing is started.", "enabled", api.Aegis.Enable},
	{
		"pause", "Stop the processors of running instances", `Stop the processors of running instances; their memory stays. A signal, a
start, a stop or a new client resumes them.`, "paused", api.Aegis.Pause,
	},
	{
		"hibernate", "Put instances on disk, with their programs", `Put the memory of instances that nobody uses on disk and end their machines.
Their programs go on where they were when somebody needs them again.`, "hibernated", api.Aegis.Hibernate,
	},
	{"resume", "Let paused and hibernated instances go on", "Let paused and hibernated instances go on.", "resumed", api.Aegis.Resume},
	{
		"delete", "Stop instances at once and remove them with their disks", `Stop instances at once and remove them with their disks. There is no way back.`, "deleted",
		func(aegis api.Aegis, ctx context.Context, ref string) (api.Instance, error) {
			return api.Instance{}, aegis.Delete(ctx, ref)
		},
	},
}

func (a *app) instanceVerb(v verb) *cobra.Command {
	quiet := false
	cmd := &cobra.Command{
		Use: v.name + " NAME...", Short: v.short, Long: v.long, Args: someNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				return each(args, func(name string) error {
					_, err := v.do(aegis, ctx, name)
					if err == nil && !quiet {
						err = a.say("Instance %s %s\n", name, v.done)
					}
					return err
				})
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing")
	return cmd
}

// each calls f with every name, also after one has failed.
func each[T any](all []T, f func(T) error) error {
	var failed []error
	for _, one := range all {
		failed = append(failed, f(one))
	}
	return errors.Join(failed...)
}

// someNames asks for one name or more.
func someNames(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(cmd, fmt.Errorf("no name: expected names or ids of instances, such as: %s web", cmd.CommandPath()))
	}
	return nil
}

// oneName asks for exactly one.
func oneName(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usage(cmd, fmt.Errorf("unexpected argument %q: %s takes one name", args[1], cmd.CommandPath()))
	}
	return someNames(cmd, args)
}

func (a *app) instanceRename() *cobra.Command {
	return &cobra.Command{
		Use:   "rename NAME NEW-NAME",
		Short: "Give an instance another name",
		Long: `Give an instance another name. A machine that runs keeps its host name until
its next start.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usage(cmd, errors.New("expected the name or id of an instance and its new name, such as: aegis instance rename web www"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				if _, err := aegis.Rename(ctx, args[0], args[1]); err != nil {
					return err
				}
				return a.say("Instance %s renamed to %s\n", args[0], args[1])
			})
		},
	}
}

func (a *app) instancePrune() *cobra.Command {
	var out listing
	age, dry := "7d", false
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete instances that have been at rest for long",
		Long: `Delete instances that have been at rest for long, with their disks. Spared are
those that are to be started again: by their restart policy, or, unless they are
disabled, on demand.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			least, err := api.ParseAge(age)
			if err != nil {
				return usage(cmd, err)
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				ids, err := aegis.Prune(ctx, least, dry)
				if err != nil {
					return err
				}
				return a.printPruned(ids, out, dry)
			})
		},
	}
	cmd.Flags().StringVar(&age, "stopped-older-than", age, "how long at least, such as 90m, 24h or 7d")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "delete nothing, print the ids")
	out.addFlags(cmd)
	return cmd
}

func (a *app) printPruned(ids []string, out listing, dry bool) error {
	out.quiet = out.quiet || dry && out.format == "text"
	all := make([]api.Instance, len(ids))
	for i, id := range ids {
		all[i].ID = id
	}
	if done, err := a.special(out, append([]string{}, ids...), all...); done {
		return err
	}
	return a.say("Pruned %d stopped instance(s)\n", len(ids))
}
