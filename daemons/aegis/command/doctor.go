package command

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/connect"
	"github.com/xfeldman/aegisvm/daemons/aegis/doctor"
	"github.com/xfeldman/aegisvm/daemons/aegis/service"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/worker"
)

// systemState is where the system's aegisd keeps what it owns.
const systemState = "/var/lib/aegis"

func (a *app) doctor() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what is missing on this host, and which package brings it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			t, err := target(ctx)
			if err != nil {
				return err
			}
			return a.printFindings(hostOf(t).Examine(ctx), out)
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

// hostOf is this host, as the aegisd of a target uses it.
func hostOf(t connect.Target) doctor.Host {
	state := systemState
	if t.Standalone() {
		state = filepath.Join(t.Home, "data")
	}
	return doctor.Host{
		Share: service.Share(), State: state,
		Daemon:   func(ctx context.Context) (api.Status, error) { return statusOf(ctx, t) },
		Driver:   driver,
		Walls:    worker.MissingWalls,
		LookPath: exec.LookPath,
	}
}

// driver probes the driver that an aegisd of this user would choose.
func driver(ctx context.Context) (vmm.Support, error) {
	_, d, err := drivers.Choose(ctx, os.Getenv)
	if err != nil {
		return vmm.Support{}, err
	}
	return d.Probe(ctx)
}

// statusOf asks the aegisd of a target, if it runs.
func statusOf(ctx context.Context, t connect.Target) (st api.Status, err error) {
	client, err := openRunning(ctx, t)
	if err != nil {
		return st, err
	}
	defer client.Close()
	return client.Status(ctx)
}

// diagnosis is what doctor -o json tells.
type diagnosis struct {
	Usable   bool             `json:"usable"`
	Findings []doctor.Finding `json:"findings"`
}

// printFindings prints the findings; exit code 1 means that no machine runs.
func (a *app) printFindings(all []doctor.Finding, out format) error {
	usable := doctor.Usable(all)
	if out == "json" {
		if err := a.json(diagnosis{usable, all}); err != nil {
			return err
		}
	} else {
		a.printTable(all)
	}
	if !usable {
		return exitError{code: exitFailed}
	}
	return nil
}

func (a *app) printTable(all []doctor.Finding) {
	colours := map[doctor.Level]colour{doctor.OK: green, doctor.Warn: yellow, doctor.Fail: red}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, f := range all {
		level := paint(a.out, colours[f.Level], fmt.Sprintf("%-4s", f.Level))
		fmt.Fprintf(w, "%s\t%s\t%s\n", level, f.Check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(w, "%s\t\tdo: %s\n", paint(a.out, colours[f.Level], "    "), f.Remedy)
		}
	}
	w.Flush()
}
