package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// explanation is what why tells.
type explanation struct {
	ID     string    `json:"id"`
	Handle string    `json:"handle,omitempty"`
	Phase  api.Phase `json:"phase"`
	Why    []string  `json:"why"`
}

func (a *app) why() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Say why an instance is as it is",
		Long: `Say why an instance is as it is: how its program or its machine ended, what
starts it again and what keeps it from starting; what keeps it awake, what put it
to sleep, and when the next step is due.`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				in, err := aegis.Get(ctx, args[0])
				if err != nil {
					return err
				}
				e := explanation{in.ID, in.Handle, in.Phase, reasons(in, time.Now())}
				if out == "json" {
					return a.json(e)
				}
				return a.say("%s is %s\n  %s\n", nameOf(in), in.Phase, strings.Join(e.Why, "\n  "))
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

// reasons are what is known, one a line.
func reasons(in api.Instance, now time.Time) []string {
	lines := []string{sinceText(in, now)}
	if in.ExitCode != nil {
		lines = append(lines, "program: "+exitText(in))
	}
	if in.LastError != "" {
		lines = append(lines, "reason: "+printable(in.LastError))
	}
	lines = append(lines, fmt.Sprintf("starts: %d", in.Starts))
	if in.RestartCount > 0 {
		lines[len(lines)-1] += fmt.Sprintf(", the last %d by its restart policy", in.RestartCount)
	}
	lines = append(append(lines, portReasons(in)...), sleepReasons(in, now)...)
	return append(lines, nextText(in, now)...)
}

func sinceText(in api.Instance, now time.Time) string {
	since := func(t time.Time) string {
		return fmt.Sprintf("%s (%v ago)", timeText(&t), now.Sub(t).Round(time.Second))
	}
	switch {
	case atRest(in.Phase) && in.StoppedAt != nil:
		return "at rest since " + since(*in.StoppedAt)
	case in.StartedAt != nil:
		return "its program started at " + since(*in.StartedAt)
	default:
		return "created at " + since(in.CreatedAt)
	}
}

// nextText says what starts an instance again, or lets it go on.
func nextText(in api.Instance, now time.Time) []string {
	name := nameOf(in)
	switch {
	case in.RestartAt != nil:
		return []string{fmt.Sprintf("its policy %s starts it again in %v", in.Restart, max(in.RestartAt.Sub(now), 0).Round(time.Second))}
	case !in.Enabled:
		return []string{fmt.Sprintf("it is disabled: 'aegis instance enable %s' allows starts, 'aegis instance start %s' starts it", name, name)}
	case atRest(in.Phase):
		return []string{fmt.Sprintf("nothing starts it by itself (policy %s): 'aegis instance start %s' does", in.Restart, name)}
	case in.Phase == api.PhasePaused, in.Phase == api.PhaseHibernated:
		return []string{fmt.Sprintf("'aegis instance resume %s' lets it go on, as does whoever needs it", name)}
	}
	return nil
}
