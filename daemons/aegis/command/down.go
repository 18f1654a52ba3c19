package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/connect"
)

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop your machines, then aegisd; delete nothing",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return a.stopDaemon(ctx)
		},
	}
}

func (a *app) stopDaemon(ctx context.Context) error {
	t, d, running, err := chosen(ctx)
	if err != nil {
		return err
	}
	if !running && machinesLeft(t) {
		// Machines outlive their daemon, and it takes one to stop them.
		if err := d.Start(ctx); err != nil {
			return fmt.Errorf("machines run without aegisd, which does not start to stop them: %w", err)
		}
		running = true
	}
	if !running {
		// Its socket may still be open, and the next caller would start it.
		if err := d.Stop(ctx); err != nil && !t.Standalone() {
			return err
		}
		fmt.Fprintln(a.out, "aegisd is not running")
		return nil
	}
	stopped, err := stopMachines(ctx, t)
	if err != nil {
		return fmt.Errorf("aegisd is left running: %w", err)
	}
	if err := d.Stop(ctx); err != nil {
		return err
	}
	if stopped > 0 {
		fmt.Fprintf(a.out, "aegisd is stopped, and %d of your machines with it\n", stopped)
	} else {
		fmt.Fprintln(a.out, "aegisd is stopped")
	}
	return nil
}

// machinesLeft tells whether there are machines that an earlier daemon
// started, as far as the caller may see them.
func machinesLeft(t connect.Target) bool {
	dir := "/run/aegis/vmm"
	if t.Standalone() {
		dir = filepath.Join(t.Home, "data/machines")
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) > 0
}

// stopMachines stops the caller's machines, all at once, and tells how many
// there were.
func stopMachines(ctx context.Context, t connect.Target) (int, error) {
	client, err := connect.Open(ctx, t)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	all, err := client.List(ctx)
	if err != nil {
		return 0, err
	}
	mine := own(all, uint32(os.Getuid()))
	failed := make([]error, len(mine))
	var stops sync.WaitGroup
	for i, in := range mine {
		stops.Go(func() {
			if _, err := client.Stop(ctx, in.ID); err != nil && api.CodeOf(err) != api.NotFound {
				failed[i] = fmt.Errorf("stopping %s: %w", nameOf(in), err)
			}
		})
	}
	stops.Wait()
	return len(mine), errors.Join(failed...)
}

// own picks the instances of a user that have a machine.
func own(all []api.Instance, uid uint32) []api.Instance {
	var mine []api.Instance
	for _, in := range all {
		if in.OwnerUID == uid && !atRest(in.Phase) && in.Phase != api.PhaseHibernated {
			mine = append(mine, in)
		}
	}
	return mine
}

func atRest(p api.Phase) bool { return p == api.PhaseStopped || p == api.PhaseFailed }

// nameOf is what a user calls an instance.
func nameOf(in api.Instance) string {
	if in.Handle != "" {
		return in.Handle
	}
	return in.ID
}
