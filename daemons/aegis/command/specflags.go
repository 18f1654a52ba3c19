package command

import (
	"errors"
	"fmt"
	"strconv"
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
	flags.Var(&f.exposes, "expose", "port to offer on the host, [PUBLIC:]GUEST[/http|/tcp]; may be repeated")
	flags.StringVar(&f.kit, "kit", "", "preset to start from")
	flags.StringVar(&f.idle, "idle", "", "when to sleep: never, leases_only, or a time without activity such as 5m")
	for _, repeated := range []string{"label", "expose"} {
		flags.Lookup(repeated).DefValue = "" // there is none
	}
}

// apply adds what the flags say to a spec.
func (f *lifeFlags) apply(spec *api.InstanceSpec) {
	spec.Hostname, spec.Kit, spec.Idle, spec.Restart = f.hostname, f.kit, f.idle, api.RestartPolicy(f.restart)
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
	ports, protocol, given := strings.Cut(s, "/")
	if given && protocol != "http" && protocol != "tcp" {
		return errors.New("expected [PUBLIC:]GUEST, with /http or /tcp")
	}
	public, guest, both := strings.Cut(ports, ":")
	if !both {
		public, guest = "", public
	}
	one := api.Expose{Protocol: protocol}
	var err error
	if one.Port, err = port(guest); err == nil && both {
		one.PublicPort, err = port(public)
	}
	if err != nil {
		return err
	}
	*e = append(*e, one)
	return nil
}

func port(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("port %q: expected [PUBLIC:]GUEST with numbers from 1 to 65535", s)
	}
	return int(n), nil
}
