package command

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// report is what status tells.
type report struct {
	api.Status
	// Address is where aegisd was looked for, as in AEGIS_ADDRESS.
	Address string `json:"address"`
	// List has the instances themselves.
	List []api.Instance `json:"list"`
}

func (a *app) status() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show aegisd, what machines run on, and the machines",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			r, err := a.report(ctx)
			if err != nil {
				return err
			}
			return a.printReport(r, out)
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

// report asks aegisd, which it does not start.
func (a *app) report(ctx context.Context) (report, error) {
	t, err := target(ctx)
	if err != nil {
		return report{}, err
	}
	r := report{Address: t.String(), Status: api.Status{Status: "stopped"}, List: []api.Instance{}}
	client, err := openRunning(ctx, t)
	if api.CodeOf(err) == api.Unavailable {
		return r, nil
	}
	if err != nil {
		return r, err
	}
	defer client.Close()
	if r.Status, err = client.Status(ctx); err != nil {
		return r, err
	}
	all, err := client.List(ctx)
	r.List = append(r.List, all...)
	return r, err
}

// printReport prints a report; an aegisd that is not running is exit code 1.
func (a *app) printReport(r report, out format) error {
	stopped := r.Status.Status != "running"
	switch {
	case out == "json":
		if err := a.json(r); err != nil {
			return err
		}
	case stopped:
		fmt.Fprintf(a.out, "aegisd is not running at %s: start it with 'aegis up'\n", r.Address)
	default:
		a.printStatus(r)
		a.printInstances(r.List)
	}
	if stopped {
		return exitError{code: exitFailed}
	}
	return nil
}

func (a *app) printStatus(r report) {
	st := r.Status
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "aegisd\t%s, version %s, %s, %s\n", st.Status, st.Version, st.Composition, r.Address)
	fmt.Fprintf(w, "driver\t%s, %s\n", st.Backend, accelName(st.Accel))
	fmt.Fprintf(w, "kernel\t%s\n", st.Kernel)
	fmt.Fprintf(w, "network\t%s\n", networkText(st))
	fmt.Fprintf(w, "front\t%s\n", frontText(st))
	fmt.Fprintf(w, "machines\t%s\n", countText(st.Instances))
	w.Flush()
	for _, warning := range st.Warnings {
		fmt.Fprintf(a.out, "%s %s\n", paint(a.out, yellow, "WARNING:"), warning)
	}
}

func frontText(st api.Status) string {
	switch {
	case st.Front != "":
		return "http://" + st.Front
	case st.FrontNote != "":
		return "none: " + printable(st.FrontNote)
	}
	return "none"
}

func networkText(st api.Status) string {
	switch {
	case st.NetworkNote != "":
		return st.Network + ": " + printable(st.NetworkNote)
	case st.NetworkWhy != "":
		return st.Network + ", " + st.NetworkKind + " mode: " + printable(st.NetworkWhy)
	}
	return st.Network
}

// countText lists the phases that have instances.
func countText(count map[api.Phase]int) string {
	var parts []string
	for _, p := range slices.Sorted(maps.Keys(count)) {
		if count[p] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[p], p))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// printInstances lists those that are not at rest, and those that failed with
// the reason.
func (a *app) printInstances(all []api.Instance) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	header := "\nID\tNAME\tPHASE\tSINCE\tCOMMAND\n"
	for _, in := range all {
		if in.Phase == api.PhaseStopped && in.LastError == "" {
			continue
		}
		since := in.CreatedAt
		if in.StartedAt != nil {
			since = *in.StartedAt
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\n", header, in.ID, orDash(in.Handle), in.Phase,
			since.Local().Format("2006-01-02 15:04:05"), commandText(in.Command))
		if in.LastError != "" {
			fmt.Fprintf(w, "\t\t\t\t%s\n", paint(a.out, red, in.LastError))
		}
		header = ""
	}
	w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// commandText is a command in one short line of printable characters.
func commandText(argv []string) string {
	const limit = 60
	text := fmt.Sprintf("%q", strings.Join(argv, " "))
	r := []rune(text[1 : len(text)-1])
	if len(r) > limit {
		return string(r[:limit]) + "..."
	}
	return string(r)
}
