package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instanceInfo() *cobra.Command {
	var out listing
	cmd := &cobra.Command{
		Use:   "info NAME",
		Short: "Show all that is known of an instance",
		Long:  "Show all that is known of an instance. Values of its environment are shown with -o json and -o yaml.",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				in, err := aegis.Get(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printInfo(in, out)
			})
		},
	}
	out.addFlags(cmd)
	return cmd
}

func (a *app) printInfo(in api.Instance, out listing) error {
	if done, err := a.special(out, in, in); done {
		return err
	}
	text := &strings.Builder{}
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	for _, row := range infoRows(in) {
		if row[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", row[0], row[1])
		}
	}
	w.Flush()
	return a.say("%s", text)
}

// infoRows are the lines of info; those without a value are left out.
func infoRows(in api.Instance) [][2]string {
	optional := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return timeText(t)
	}
	exit := ""
	if in.ExitCode != nil {
		exit = exitText(in)
	}
	return [][2]string{
		{"Handle", orDash(in.Handle)},
		{"ID", in.ID},
		{"State", string(in.Phase)},
		{"Enabled", fmt.Sprint(in.Enabled)},
		{"Reason", printable(in.LastError)},
		{"Exit", exit},
		{"Image", imageColumn(in)},
		{"Digest", in.Digest},
		{"Kit", in.Kit},
		{"Exposed", exposedText(in)},
		{"Command", commandText(in.Command)},
		{"Environment", strings.Join(slices.Sorted(maps.Keys(in.Env)), " ")},
		{"Secrets", strings.Join(in.SecretKeys, " ")},
		{"Workspace", printable(in.Workspace)},
		{"Network", printable(in.Network)},
		{"Workdir", printable(in.Workdir)},
		{"User", in.User},
		{"Hostname", in.Hostname},
		{"Labels", labelText(in.Labels)},
		{"Memory", fmt.Sprintf("%d MiB", in.MemoryMB)},
		{"Disk", fmt.Sprintf("%d MiB", in.DiskMB)},
		{"Processors", fmt.Sprint(in.VCPUs)},
		{"Idle", string(in.Idle)},
		{"Sleep", sleepText(in)},
		{"Restart", restartText(in)},
		{"Starts", fmt.Sprint(in.Starts)},
		{"Machine", in.Machine},
		{"Created", optional(&in.CreatedAt)},
		{"Started at", optional(in.StartedAt)},
		{"Stopped at", optional(in.StoppedAt)},
		{"Last active", optional(&in.LastActiveAt)},
		{"Connections", fmt.Sprint(in.ActiveConnections)},
	}
}

func labelText(all map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, k+"="+all[k])
	}
	return strings.Join(parts, ", ")
}

func restartText(in api.Instance) string {
	text := string(in.Restart)
	if in.RestartCount > 0 {
		text += fmt.Sprintf(", %d times since a user started it", in.RestartCount)
	}
	if in.RestartAt != nil {
		text += ", next at " + timeText(in.RestartAt)
	}
	return text
}
