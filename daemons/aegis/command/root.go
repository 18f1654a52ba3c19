// Package command has the commands of the CLI, one file each. They parse
// flags, call package run, service or doctor or aegisd itself, print, and
// choose the exit code. They keep no state.
package command

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// app is what every command writes to and reads from.
type app struct {
	in, out, err *os.File
}

// Main runs the CLI with the arguments after the program's name and returns
// the exit code: 0, 1 when something failed, 2 for a usage error; for run see
// package run.
func Main(args []string, in, out, err *os.File) int {
	a := &app{in: in, out: out, err: err}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(err)
	return a.exit(root.Execute())
}

// Tree is all commands, for what is made from them; they are not to be run.
func Tree() *cobra.Command {
	root := (&app{}).root()
	root.InitDefaultCompletionCmd()
	return root
}

func (a *app) root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "aegis",
		Short: "Give an AI agent a computer: run programs in microVMs of their own",
		Long: `Give an AI agent a computer: run programs in microVMs of their own.

AEGIS_ADDRESS says where aegisd is: dbus:system, dbus:ADDRESS or unix:/PATH.
Without it, it is the one of AEGIS_HOME where that is set, else the system's
where the system bus has it, else the one of ~/.aegis.`,
		Version:       version().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetVersionTemplate("aegis {{.Version}}\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	cmd.AddCommand(a.run(), a.up(), a.down(), a.status(), a.doctor(), a.version(), a.secret(), a.instance(), a.events(), a.why(), a.image(), a.exec(), a.attach(), a.logs(), a.copy(), a.workspace(), a.network())
	complete(cmd)
	return cmd
}

// noCommand refuses words that are no command.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return usage(cmd, fmt.Errorf("unknown command %q: expected one of %s", args[0], strings.Join(names, ", ")))
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, fmt.Errorf("unexpected argument %q: %s takes none", args[0], cmd.CommandPath()))
	}
	return nil
}
