package command

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/connect"
	"github.com/xfeldman/aegisvm/daemons/aegis/service"
)

func (a *app) up() *cobra.Command {
	return &cobra.Command{
		Use:   "up",
		Short: "Start aegisd",
		Long: `Start aegisd: the system's through systemd where it is installed there, else
one of your own, which keeps its state in ~/.aegis (AEGIS_HOME moves it).`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return a.startDaemon(ctx)
		},
	}
}

// interruptible gives a command a context that Ctrl-C ends.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

func (a *app) startDaemon(ctx context.Context) error {
	t, d, running, err := chosen(ctx)
	if err != nil {
		return err
	}
	done := "aegisd is already running"
	if !running {
		done = "aegisd is running"
		// Somebody else may have started it meanwhile: then ours gives way.
		if err := d.Start(ctx); err != nil {
			if running, _ = isRunning(ctx, t); !running {
				return err
			}
		}
	}
	st, err := daemonStatus(ctx, t)
	if running && api.CodeOf(err) == api.Unavailable {
		// It was about to go: a killed one has its name for a moment longer.
		done = "aegisd is running"
		if err := d.Start(ctx); err != nil {
			return err
		}
		st, err = daemonStatus(ctx, t)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: version %s, %s, %s (%s)\n", done, st.Version, st.Composition, st.Backend, accelName(st.Accel))
	a.warn(st.Warnings)
	return nil
}

// daemonStatus asks the aegisd of a target how it is.
func daemonStatus(ctx context.Context, t connect.Target) (api.Status, error) {
	client, err := connect.Open(ctx, t)
	if err != nil {
		return api.Status{}, err
	}
	defer client.Close()
	return client.Status(ctx)
}

// chosen is the target, how its aegisd is started, and whether it runs.
func chosen(ctx context.Context) (t connect.Target, d daemon, running bool, err error) {
	if t, err = target(ctx); err != nil {
		return t, nil, false, err
	}
	if d, err = daemonOf(t); err != nil {
		return t, nil, false, err
	}
	running, err = isRunning(ctx, t)
	return t, d, running, err
}

// daemon is an aegisd that can be started and stopped.
type daemon interface {
	Start(context.Context) error
	Stop(context.Context) error
}

// daemonOf tells how the aegisd of a target is started and stopped.
func daemonOf(t connect.Target) (daemon, error) {
	switch {
	case t.Standalone():
		return service.Standalone{Home: t.Home, Socket: t.Socket}, nil
	case t.Bus == "system", t.Socket == connect.SystemSocket:
		return service.System{}, nil
	default:
		return nil, fmt.Errorf("AEGIS_ADDRESS=%s names an aegisd that this command did not start: unset it, or set AEGIS_HOME as well", t)
	}
}

// isRunning tells whether the aegisd of a target runs, and does not start it.
func isRunning(ctx context.Context, t connect.Target) (bool, error) {
	client, err := openRunning(ctx, t)
	if api.CodeOf(err) == api.Unavailable {
		return false, nil
	}
	if err == nil {
		client.Close()
	}
	return err == nil, err
}

// openRunning connects to the aegisd of a target, which it does not start; one
// that does not run is Unavailable.
func openRunning(ctx context.Context, t connect.Target) (*connect.Client, error) {
	client, err := connect.Open(ctx, t)
	if err != nil {
		return nil, err
	}
	running, err := client.Running(ctx)
	if err == nil && !running {
		err = connect.ErrNotRunning()
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// accelName says what instructions of a guest are run by.
func accelName(accel string) string {
	switch accel {
	case "tcg":
		return "software emulation"
	case "kvm":
		return "KVM"
	case "":
		return "not usable"
	default:
		return accel
	}
}

// warn tells what aegisd warns of, loudly.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(a.err, "%s %s\n", paint(a.err, yellow, "WARNING:"), w)
	}
}
