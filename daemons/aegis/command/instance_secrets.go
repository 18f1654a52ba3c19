package command

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instanceSecrets() *cobra.Command {
	out, none := format("text"), false
	cmd := &cobra.Command{
		Use:   "secrets NAME [SECRET...]",
		Short: "Say which secrets an instance's program gets",
		Long: `Say which secrets an instance's program gets under their own names, in place of
those it got so far; '*' means all there are, --none takes them away. Those
under other names, from --env NAME=secret.SECRET, stay. Without any, print what
it gets.

A program that runs keeps what it has until the instance is started again.`,
		Example: `  aegis instance secrets web API_KEY TOKEN
  aegis instance restart web`,
		Args: func(cmd *cobra.Command, args []string) error {
			if none && len(args) > 1 {
				return usage(cmd, errors.New("both --none and names of secrets: give one"))
			}
			return someNames(cmd, args)
		},
		ValidArgsFunction: completeSecretsOf,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				if none || len(args) > 1 {
					return a.useSecrets(ctx, aegis, args[0], args[1:], out)
				}
				in, err := aegis.Get(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printUsed(api.UsedSecrets{Keys: append([]string{}, in.SecretKeys...)}, out)
			})
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "it gets none under their own names")
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) useSecrets(ctx context.Context, aegis api.Aegis, name string, secrets []string, out format) error {
	used, err := aegis.UseSecrets(ctx, name, secrets)
	if err != nil {
		return err
	}
	if used.RestartRequired {
		a.notice("the program that runs keeps what it has until: aegis instance restart " + name)
	}
	return a.printUsed(used, out)
}

func (a *app) printUsed(used api.UsedSecrets, out format) error {
	switch {
	case out == "json":
		return a.json(used)
	case len(used.Keys) == 0:
		return a.say("No secrets\n")
	}
	return a.say("%s\n", strings.Join(used.Keys, "\n"))
}

// completeSecretsOf completes an instance, then secrets.
func completeSecretsOf(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return argumentNames(instanceNames, 1)(cmd, args, typed)
	}
	return argumentNames(secretNames, 1001)(cmd, args, typed)
}
