package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instanceKeepalive() *cobra.Command {
	age, reason, release := api.DefaultLease, "", false
	cmd := &cobra.Command{
		Use:   "keepalive NAME",
		Short: "Keep an instance awake for a while",
		Long: `Keep an instance awake for a while, whatever its idle policy says, and wake it
if it sleeps. The lease replaces the one that there is, holds when this command
has ended, and ends by itself, with a stop or with --release.`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if release && (cmd.Flags().Changed("for") || reason != "") {
				return usage(cmd, errors.New("--release ends a lease: leave --for and --reason out"))
			}
			if age < time.Millisecond {
				return usage(cmd, errors.New("--for: expected a length of time above 0, such as 90s, 10m or 2h"))
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				if release {
					if _, err := aegis.Release(ctx, args[0]); err != nil {
						return err
					}
					return a.say("Instance %s may sleep\n", args[0])
				}
				if _, err := aegis.Keepalive(ctx, args[0], api.Lease{TTLMS: age.Milliseconds(), Reason: reason}); err != nil {
					return err
				}
				return a.say("Instance %s is kept awake for %v\n", args[0], age)
			})
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&age, "for", age, "how long, such as 90s, 10m or 2h, at most 24h")
	flags.StringVar(&reason, "reason", "", "what people are told who ask why it is awake")
	flags.BoolVar(&release, "release", false, "end the lease that there is")
	return cmd
}
