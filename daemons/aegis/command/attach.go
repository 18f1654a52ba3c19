package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) attach() *cobra.Command {
	return &cobra.Command{
		Use:   "attach NAME",
		Short: "Connect with the program of a machine",
		Long: `Connect with the program of a machine, the same as exec --attach main.

It can be had by one at a time, and again and again, where the machine was made
with a terminal (-t) or with streams, and does not go with its client. On a
terminal Ctrl-P Ctrl-Q leaves it. The exit code is the program's.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(cmd, errors.New("no instance: expected its name or id"))
			case len(args) > 1:
				return usage(cmd, fmt.Errorf("unexpected argument %q: %s takes an instance only", args[1], cmd.CommandPath()))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.attachExec(cmd, execFlags{attach: api.PrimaryExec}, args[0])
		},
	}
}
