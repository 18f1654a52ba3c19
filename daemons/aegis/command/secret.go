package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) secret() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Keep values that only programs in machines may see",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.secretSet(), a.secretList(), a.secretDelete(), a.secretRotateKey())
	return cmd
}

func (a *app) secretSet() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "set NAME [-]",
		Short: "Keep a value under a name, in place of an earlier one",
		Long: `Keep a value under a name, in place of an earlier one.

The value is asked for on a terminal, else read from standard input, as with
'-'; one newline at its end is cut off. --from-file takes a file as it is. There
is no way to read the value back. Machines get it when they start next.`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usage(cmd, errors.New("no name: expected the name of a secret, such as: aegis secret set API_KEY"))
			case len(args) > 2:
				return usage(cmd, fmt.Errorf("unexpected argument %q: %s takes a name and at most one value", args[2], cmd.CommandPath()))
			case len(args) == 2 && cmd.Flags().Changed("from-file"):
				return usage(cmd, errors.New("both a value and --from-file: give one"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				value, err := a.secretValue(ctx, file, args)
				if err != nil {
					return err
				}
				if _, err := aegis.SetSecret(ctx, args[0], value); err != nil {
					return err
				}
				return a.say("Secret %s set\n", args[0])
			})
		},
	}
	cmd.Flags().StringVar(&file, "from-file", "", "take the value from this file")
	return cmd
}

func (a *app) secretList() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the names of the secrets",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				all, err := aegis.Secrets(ctx)
				if err != nil {
					return err
				}
				return a.printSecrets(all, out)
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) printSecrets(all []api.Secret, out format) error {
	switch {
	case out == "json":
		return a.json(append([]api.Secret{}, all...))
	case len(all) == 0:
		return a.say("No secrets\n")
	}
	text := "Secrets:\n"
	for _, sec := range all {
		text += "  " + sec.Name + "\n"
	}
	return a.say("%s", text)
}

func (a *app) secretDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME...",
		Short: "Forget secrets",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, errors.New("no name: expected names of secrets"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				var failed []error
				for _, name := range args {
					err := aegis.DeleteSecret(ctx, name)
					if err == nil {
						err = a.say("Secret %s deleted\n", name)
					}
					failed = append(failed, err)
				}
				return errors.Join(failed...)
			})
		},
	}
}

func (a *app) secretRotateKey() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Encrypt every secret anew with a new master key",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				if err := aegis.RotateKey(ctx); err != nil {
					return err
				}
				return a.say("Master key rotated\n")
			})
		},
	}
}

// withAegis calls f with a connection to aegisd, until a signal comes.
func (a *app) withAegis(cmd *cobra.Command, f func(context.Context, api.Aegis) error) error {
	ctx, stop := interruptible(cmd)
	defer stop()
	client, err := a.connect(ctx, exitFailed)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(ctx, client)
}

// say prints a result.
func (a *app) say(text string, args ...any) error {
	if _, err := fmt.Fprintf(a.out, text, args...); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}
