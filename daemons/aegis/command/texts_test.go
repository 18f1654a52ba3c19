package command

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestEveryCommandAndFlagIsDescribed(t *testing.T) {
	described(t, Tree())
}

func described(t *testing.T, cmd *cobra.Command) {
	t.Helper()
	for _, c := range cmd.Commands() {
		described(t, c)
	}
	name := cmd.CommandPath()
	if cmd.Short == "" || len(cmd.Short) > 80 || strings.HasSuffix(cmd.Short, ".") || strings.Contains(cmd.Short, "\n") {
		t.Errorf("%s: short text %q: expected one line without a full stop", name, cmd.Short)
	}
	for what, text := range map[string]string{"long text": cmd.Long, "example": cmd.Example} {
		if text != "" && strings.TrimSpace(text) == "" {
			t.Errorf("%s: its %s is blank", name, what)
		}
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if strings.TrimSpace(f.Usage) == "" {
			t.Errorf("%s: --%s is not described", name, f.Name)
		}
	})
}
