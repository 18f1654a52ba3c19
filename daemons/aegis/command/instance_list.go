package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// filter is which instances list shows.
type filter struct {
	running, stopped bool
	labels           labels
}

func (f filter) shows(in api.Instance) bool {
	for k, v := range f.labels {
		if got, there := in.Labels[k]; !there || got != v {
			return false
		}
	}
	switch {
	case f.running:
		return in.State == api.StateRunning
	case f.stopped:
		return in.State == api.StateStopped
	}
	return true
}

func (a *app) instanceList() *cobra.Command {
	var out listing
	f := filter{labels: labels{}}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List instances, running ones first",
		Long:  "List instances: running ones first, disabled ones last, then by age.",
		Args: func(cmd *cobra.Command, args []string) error {
			if f.running && f.stopped {
				return usage(cmd, errors.New("both --running and --stopped: give one"))
			}
			return noArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				all, err := aegis.List(ctx)
				if err != nil {
					return err
				}
				all = slices.DeleteFunc(all, func(in api.Instance) bool { return !f.shows(in) })
				return a.printList(all, out)
			})
		},
	}
	cmd.Flags().BoolVar(&f.running, "running", false, "only those that run")
	cmd.Flags().BoolVar(&f.stopped, "stopped", false, "only those at rest")
	cmd.Flags().Var(f.labels, "label", "only those with this label, KEY=VALUE; may be repeated")
	cmd.Flags().Lookup("label").DefValue = "" // there is none
	out.addFlags(cmd)
	return cmd
}

func (a *app) printList(all []api.Instance, out listing) error {
	if done, err := a.special(out, append([]api.Instance{}, all...), all...); done {
		return err
	}
	if len(all) == 0 {
		return a.say("No instances\n")
	}
	text := &strings.Builder{}
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "ID\tHANDLE\tKIT\tSTATUS\tSTATE\tSTOPPED AT")
	if out.format == "wide" {
		fmt.Fprint(w, "\tRESTART\tSTARTS\tMEMORY\tCPUS\tIMAGE\tCOMMAND")
	}
	for _, in := range all {
		fmt.Fprintf(w, "\n%s\t%s\t%s\t%s\t%s\t%s", in.ID, orDash(in.Handle), orDash(in.Kit), enabledText(in.Enabled), in.Phase, timeText(in.StoppedAt))
		if out.format == "wide" {
			fmt.Fprintf(w, "\t%s\t%d\t%d\t%d\t%s\t%s", in.Restart, in.Starts, in.MemoryMB, in.VCPUs, imageColumn(in), commandText(in.Command))
		}
	}
	fmt.Fprintln(w)
	w.Flush()
	return a.say("%s", text)
}

func enabledText(enabled bool) string {
	if enabled {
		return "enabled"
	}
	return "disabled"
}

func timeText(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func imageColumn(in api.Instance) string {
	if in.ImageRef == "" {
		return "base"
	}
	return commandText([]string{in.ImageRef})
}
