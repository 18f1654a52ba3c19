package command

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// lifeFlags are the flags of a spec that are about an instance which stays.
type lifeFlags struct {
	hostname, kit, idle, restart string
	labels                       labels
	exposes                      exposes
}

// addFlags gives a command the flags; the zero value of f is ready for it.
func (f *lifeFlags) addFlags(cmd *cobra.Command) {
	f.labels = labels{}
	flags := cmd.Flags()
	flags.StringVar(&f.hostname, "hostname", "", "the machine's name for itself (default its name, else its id)")
	flags.Var(f.labels, "label", "label KEY=VALUE; may be repeated")
	flags.StringVar(&f.restart, "restart", "", "what starts it again: never, on-failure, always or on-demand (default never)")
	flags.Var(&f.exposes, "expose", "port to offer on the host, [BIND:][PUBLIC:]GUEST[/http|/tcp|/udp]; may be repeated")
	flags.StringVar(&f.kit, "kit", "", "preset to start from")
	flags.StringVar(&f.idle, "idle", "", "when to sleep: never, leases_only, pause=TIME, hibernate=TIME, budget=TIME, with commas between them")
	for _, repeated := range []string{"label", "expose"} {
		flags.Lookup(repeated).DefValue = "" // there is none
	}
}

// apply adds what the flags say to a spec.
func (f *lifeFlags) apply(spec *api.InstanceSpec) {
	spec.Hostname, spec.Kit, spec.Idle, spec.Restart = f.hostname, f.kit, api.IdlePolicy(f.idle), api.RestartPolicy(f.restart)
	spec.Exposes = f.exposes
	if len(f.labels) > 0 {
		spec.Labels = f.labels
	}
}

// labels is the flag --label.
type labels map[string]string

func (l labels) String() string { return "" }
func (l labels) Type() string   { return "KEY=VALUE" }

func (l labels) Set(s string) error {
	key, value, pair := strings.Cut(s, "=")
	if !pair || key == "" {
		return errors.New("expected KEY=VALUE; write KEY= for an empty value")
	}
	l[key] = value
	return nil
}

// exposes is the flag --expose.
type exposes []api.Expose

func (e *exposes) String() string { return "" }
func (e *exposes) Type() string   { return "PORT" }

func (e *exposes) Set(s string) error {
	one, err := api.ParseExpose(s)
	if err == nil {
		*e = append(*e, one)
	}
	return err
}
