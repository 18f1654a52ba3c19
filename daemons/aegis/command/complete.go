package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/connect"
)

// completionTimeout is how long a shell may wait for aegisd after Tab.
const completionTimeout = time.Second

// names asks aegisd for what an argument may be.
type names func(context.Context, api.Aegis) ([]string, error)

func secretNames(ctx context.Context, aegis api.Aegis) (found []string, err error) {
	all, err := aegis.Secrets(ctx)
	for _, s := range all {
		found = append(found, s.Name)
	}
	return found, err
}

// instanceNames are handles, and ids where there is none.
func instanceNames(ctx context.Context, aegis api.Aegis) (found []string, err error) {
	all, err := aegis.List(ctx)
	for _, in := range all {
		name := in.Handle
		if name == "" {
			name = in.ID
		}
		found = append(found, name+"\t"+string(in.Phase)+" "+commandText(in.Command))
	}
	return found, err
}

// complete teaches the shell what the arguments of all commands below cmd may
// be. The usage line says it: NAME is a secret below `secret`, a workspace below
// `workspace` and an instance elsewhere, NAME... is any number of them.
func complete(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		complete(c)
	}
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = arguments(cmd)
	}
	flags := map[string]cobra.CompletionFunc{"secret": flagNames(secretNames), "env": completeEnv, "image": completeImage, "pull": completePolicy, "workspace": completeWorkspace, "network": completeNetwork}
	for name, f := range flags {
		if cmd.Flags().Lookup(name) != nil {
			cmd.RegisterFlagCompletionFunc(name, f) // fails where the command has its own
		}
	}
}

// arguments chooses how the arguments of a command are completed; nil leaves
// them to the shell, which offers files.
func arguments(cmd *cobra.Command) cobra.CompletionFunc {
	words := strings.Fields(cmd.Use)[1:]
	list := instanceNames
	if cmd.HasParent() && cmd.Parent().Name() == "secret" {
		list = secretNames
	}
	if cmd.HasParent() && cmd.Parent().Name() == "workspace" {
		list = workspaceNames
	}
	switch {
	case len(words) == 0:
		return cobra.NoFileCompletions
	case cmd.HasParent() && cmd.Parent().Name() == "image":
		return nil // NAME is an image there
	case slices.Contains(words, "NAME..."):
		return argumentNames(list, 1000)
	case slices.Contains(words, "NAME"):
		return argumentNames(list, 1)
	}
	return nil
}

// argumentNames completes the first most arguments, none of them twice.
func argumentNames(list names, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found := slices.DeleteFunc(suggest(cmd, list, typed), func(c string) bool {
			name, _, _ := strings.Cut(c, "\t")
			return slices.Contains(args, name)
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func flagNames(list names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return suggest(cmd, list, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeEnv completes --env SECRET and --env NAME=secret.SECRET.
func completeEnv(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	variable, value, pair := strings.Cut(typed, "=")
	if !pair {
		return suggest(cmd, secretNames, typed), cobra.ShellCompDirectiveNoFileComp
	}
	typed, isSecret := strings.CutPrefix(value, fromSecret)
	if !isSecret {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found := suggest(cmd, secretNames, typed)
	for i := range found {
		found[i] = variable + "=" + fromSecret + found[i]
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// suggest asks the aegisd that runs, if one does and answers at once. A shell
// that waits for a suggestion wants no errors.
func suggest(cmd *cobra.Command, list names, typed string) []cobra.Completion {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	t, err := connect.Choose(ctx)
	if err != nil {
		return nil
	}
	client, err := openRunning(ctx, t)
	if err != nil {
		return nil
	}
	defer client.Close()
	found, err := list(ctx, client)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(found, func(name string) bool { return !strings.HasPrefix(name, typed) })
}
