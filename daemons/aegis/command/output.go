package command

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// outputFlag gives a command the flag -o.
func outputFlag(cmd *cobra.Command, out *format) {
	cmd.Flags().VarP(out, "output", "o", "output format")
}

// json prints v, indented, for people and programs.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// colour is an ANSI colour.
type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

// paint colours text for f where that is a terminal whose user wants colours.
func paint(f *os.File, c colour, text string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return text
	}
	return "\x1b[1;" + string(c) + "m" + text + "\x1b[0m"
}
