package command

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// completed is what the shell offers for a command line, without the
// directive at its end.
func completed(t *testing.T, args ...string) []string {
	t.Helper()
	code, stdout, _ := aegis(t, append([]string{"__complete"}, args...)...)
	if code != 0 {
		t.Errorf("completing %q: exit %d", args, code)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	return lines[:len(lines)-1]
}

func TestNamesOfSecretsAreCompleted(t *testing.T) {
	serve(t, &fakeAegis{secrets: map[string]string{"API_KEY": "x", "API_URL": "x", "TOKEN": "x"}})
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"secret", "set", ""}, []string{"API_KEY", "API_URL", "TOKEN"}},
		{[]string{"secret", "set", "API_KEY", ""}, nil},
		{[]string{"secret", "delete", "API_"}, []string{"API_KEY", "API_URL"}},
		{[]string{"secret", "delete", "API_KEY", "API_"}, []string{"API_URL"}},
		{[]string{"run", "--secret", "T"}, []string{"TOKEN"}},
		{[]string{"run", "--env", "T"}, []string{"TOKEN"}},
		{[]string{"run", "--env", "MINE=secret.API_K"}, []string{"MINE=secret.API_KEY"}},
		{[]string{"run", "--env", "MINE=lit"}, nil},
		{[]string{"secret", "list", ""}, nil},
	} {
		if diff := cmp.Diff(c.want, slices.Clip(completed(t, c.args...)), equateEmpty); diff != "" {
			t.Errorf("%q: %s", c.args, diff)
		}
	}
}

var equateEmpty = cmp.Transformer("list", func(l []string) string { return strings.Join(l, "\n") })

func TestNamesOfInstancesAreCompleted(t *testing.T) {
	serve(t, &fakeAegis{instances: []api.Instance{
		{ID: "inst-1", Handle: "web", Phase: api.PhaseRunning, Command: []string{"serve", "x"}},
		{ID: "inst-2", Phase: api.PhaseStopped, Command: []string{"job"}},
	}})
	root := &cobra.Command{Use: "aegis"}
	one := &cobra.Command{Use: "why [flags] NAME"}
	several := &cobra.Command{Use: "stop NAME..."}
	other := &cobra.Command{Use: "run COMMAND"}
	root.AddCommand(one, several, other)
	complete(root)
	for _, c := range []struct {
		cmd  *cobra.Command
		args []string
		want []string
	}{
		{one, nil, []string{"web\trunning serve x", "inst-2\tstopped job"}},
		{one, []string{"web"}, nil},
		{several, []string{"web"}, []string{"inst-2\tstopped job"}},
	} {
		got, _ := c.cmd.ValidArgsFunction(c.cmd, c.args, "")
		if diff := cmp.Diff(c.want, got, equateEmpty); diff != "" {
			t.Errorf("%s after %q: %s", c.cmd.Use, c.args, diff)
		}
	}
	if other.ValidArgsFunction != nil {
		t.Error("a command's arguments are not left to the shell")
	}
}

func TestCompletionIsSilentWithoutAnAnswer(t *testing.T) {
	t.Run("no aegisd", func(t *testing.T) {
		home(t)
		if got := completed(t, "secret", "delete", ""); len(got) != 0 {
			t.Errorf("offered %q", got)
		}
	})
	t.Run("one that hangs", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(home(t), "aegisd.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // it accepts, but does not answer
		if got := completed(t, "secret", "delete", ""); len(got) != 0 {
			t.Errorf("offered %q", got)
		}
	})
}
