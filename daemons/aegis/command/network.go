package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/xfeldman/aegisvm/api"
)

// egressFlags are the flags of what a guest may reach.
type egressFlags struct {
	allow []string
	deny  bool
}

func (f *egressFlags) addFlags(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.allow, "allow-egress", nil, "what it may reach instead of the internet: internet, ADDRESS, NETWORK/BITS or DOMAIN, with :PORT if only that; may be repeated")
	flags.BoolVar(&f.deny, "deny-egress", false, "let it reach nothing")
	flags.Lookup("allow-egress").DefValue = "" // there is none
}

func (f egressFlags) policy() api.EgressPolicy {
	return api.EgressPolicy{AllowEgress: f.allow, DenyEgress: f.deny}
}

// networkFlags are the flags of a spec that are about its network.
type networkFlags struct {
	egressFlags
	network string
}

// addFlags gives a command the flags.
func (f *networkFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.network, "network", "", "none, nat or host-services=PORT[,PORT...] (default nat where the host can give it)")
	f.egressFlags.addFlags(cmd.Flags())
}

func (f networkFlags) spec() api.NetworkSpec {
	return api.NetworkSpec{Network: f.network, EgressPolicy: f.policy()}
}

func completeNetwork(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{api.NetworkNAT, api.NetworkNone, api.NetworkHost}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func (a *app) network() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Show and change what instances may reach",
		Args:  noCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.networkShow(), a.networkPolicy())
	return cmd
}

func (a *app) networkShow() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show the network of an instance, and what was dropped",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				state, err := aegis.NetworkState(ctx, args[0])
				if err != nil {
					return err
				}
				return a.printNetwork(state, out)
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) networkPolicy() *cobra.Command {
	var egress egressFlags
	var services []int
	out := format("text")
	cmd := &cobra.Command{
		Use:   "policy NAME",
		Short: "Change what an instance may reach",
		Long: `Change what an instance may reach, at once if it runs, also of the connections
that it has. The flags say all of it: without --allow-egress and --deny-egress it
is the internet, without --host-services nothing of the host.`,
		Example: `  aegis network policy web --allow-egress pypi.org:443 --allow-egress '*.pythonhosted.org:443'
  aegis network policy web --deny-egress`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := api.NetworkPolicy{EgressPolicy: egress.policy()}
			for _, port := range services {
				if port < 1 || port > 65535 {
					return usage(cmd, fmt.Errorf("--host-services %d: expected ports from 1 to 65535", port))
				}
				p.HostServices = append(p.HostServices, uint16(port))
			}
			if egress.deny && len(egress.allow) > 0 {
				return usage(cmd, errors.New("--deny-egress with --allow-egress: give one of them"))
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				state, err := aegis.SetNetworkPolicy(ctx, args[0], p)
				if err != nil {
					return err
				}
				return a.printNetwork(state, out)
			})
		},
	}
	cmd.Flags().IntSliceVar(&services, "host-services", nil, "ports of the host that it may reach at its gateway")
	cmd.Flags().Lookup("host-services").DefValue = "" // there is none
	egress.addFlags(cmd.Flags())
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) printNetwork(state api.NetworkState, out format) error {
	if out == "json" {
		return a.json(state)
	}
	text := &strings.Builder{}
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"Network", state.Network},
		{"Egress", egressText(state)},
		{"Host services", portsText(state.HostServices)},
		{"Address", state.Address},
		{"Gateway", state.Gateway},
		{"Link", state.Link},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "%s:\t%s\n", row[0], row[1])
		}
	}
	w.Flush()
	printCounters(text, state.Counters)
	return a.say("%s", text)
}

func egressText(state api.NetworkState) string {
	switch {
	case state.Network == api.NetworkNone:
		return ""
	case state.DenyEgress:
		return "nothing"
	case len(state.AllowEgress) == 0:
		return "internet"
	}
	return printable(strings.Join(state.AllowEgress, " "))
}

func portsText(ports []uint16) string {
	texts := make([]string, len(ports))
	for i, p := range ports {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, " ")
}

// printCounters leaves out what has never been dropped.
func printCounters(text *strings.Builder, counters []api.NetworkCounter) {
	w := tabwriter.NewWriter(text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "\nPACKETS\tBYTES\t  \n")
	any := false
	for _, c := range counters {
		if c.Packets > 0 {
			any = true
			fmt.Fprintf(w, "%d\t%d\t  %s\n", c.Packets, c.Bytes, counterText(c.Name))
		}
	}
	if any {
		w.Flush()
	}
}

// counterText says what a counter has counted.
func counterText(name string) string {
	known := map[string]string{
		"allowed": "allowed", "mac": "dropped: another hardware address", "arp-mac": "dropped: ARP with another hardware address",
		"arp-ip": "dropped: ARP with another address", "arp-target": "dropped: ARP for another address than the gateway's",
		"ipv6": "dropped: IPv6", "ethertype": "dropped: neither ARP nor IP", "ip": "dropped: another address",
		"broadcast": "dropped: broadcast and multicast", "host": "dropped: to the host", "inbound": "dropped: to the guest, uncalled",
		"flood": "dropped: too many connections", "link-local": "dropped: link-local and metadata addresses",
		"reserved": "dropped: reserved addresses", "guests": "dropped: to other guests", "private": "dropped: private networks",
		"resolver": "dropped: other resolvers", "egress": "dropped: not allowed by its policy",
	}[name]
	if known == "" {
		return "dropped: " + name
	}
	return known
}
