package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) workspace() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "workspace",
		Short: "Folders with names that instances work in",
		Long: `Folders with names that instances work in.

--workspace NAME of 'aegis run' and 'aegis instance start' gives an instance the
folder at /workspace, and makes it if there is none.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.workspaceList(), a.workspaceRemove(), a.workspacePrune())
	return cmd
}

func (a *app) workspaceList() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List workspaces",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				all, err := aegis.Workspaces(ctx)
				if err != nil {
					return err
				}
				return a.printWorkspaces(all, out)
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) printWorkspaces(all []api.Workspace, out format) error {
	switch {
	case out == "json":
		return a.json(append([]api.Workspace{}, all...))
	case len(all) == 0:
		return a.say("No workspaces\n")
	}
	text := &strings.Builder{}
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tINSTANCES\tPATH")
	for _, ws := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", ws.Name, orDash(strings.Join(ws.Instances, ",")), ws.Path)
	}
	w.Flush()
	return a.say("%s", text)
}

func (a *app) workspaceRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "rm NAME...",
		Short: "Delete workspaces with all that is in them",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, errors.New("no name: expected names of workspaces"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				return each(args, func(name string) error {
					if err := aegis.RemoveWorkspace(ctx, api.Caller{}, name); err != nil {
						return err
					}
					return a.say("Workspace %s deleted\n", name)
				})
			})
		},
	}
}

func (a *app) workspacePrune() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Delete your workspaces that no instance has, with all that is in them",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				all, err := aegis.PruneWorkspaces(ctx, api.Caller{}, dry)
				word := "deleted"
				if dry {
					word = "would be deleted"
				}
				for _, ws := range all {
					err = errors.Join(err, a.say("Workspace %s %s\n", ws.Name, word))
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only tell which they are")
	return cmd
}
