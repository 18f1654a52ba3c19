package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) instanceExpose() *cobra.Command {
	out := format("text")
	cmd := &cobra.Command{
		Use:   "expose NAME [BIND:][PUBLIC:]GUEST[/http|/tcp|/udp]...",
		Short: "Offer ports of a guest on this host",
		Long: `Offer ports of a guest on this host, from now on and over restarts of everything.

GUEST is the guest's port, PUBLIC that of this host: without it one is chosen and
kept. BIND is an address of this host, 127.0.0.1 by default, one of IPv6 in
brackets. http, the default, is tcp whose clients are told when it cannot be
reached; it is also at http://NAME.localhost:8099, see 'aegis status'.

A connection resumes a paused instance, and starts one at rest whose restart
policy is on-demand.`,
		Example: `  aegis instance expose web 80
  aegis instance expose web 0.0.0.0:8080:80 53/udp`,
		Args: portArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parseExposes(args[1:])
			if err != nil {
				return usage(cmd, err)
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				return each(ports, func(e api.Expose) error {
					open, err := aegis.Expose(ctx, args[0], e)
					switch {
					case err != nil:
						return err
					case out == "json":
						return a.json(open)
					}
					return a.say("Exposed: %s\n", endpointText(open))
				})
			})
		},
	}
	outputFlag(cmd, &out)
	return cmd
}

func (a *app) instanceUnexpose() *cobra.Command {
	return &cobra.Command{
		Use:   "unexpose NAME GUEST[/http|/tcp|/udp]...",
		Short: "Take offered ports back",
		Long: `Take offered ports of a guest back; their connections end. Without a protocol
all that there are with that number.`,
		Args: portArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			ports, err := parseExposes(args[1:])
			if err != nil {
				return usage(cmd, err)
			}
			for i, e := range ports {
				if e.Bind != "" || e.PublicPort != 0 {
					return usage(cmd, fmt.Errorf("%q: expected the port of the guest only", args[1+i]))
				}
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				return each(ports, func(e api.Expose) error {
					if err := aegis.Unexpose(ctx, args[0], e.GuestPort, e.Protocol); err != nil {
						return err
					}
					return a.say("Unexposed port %d on %s\n", e.GuestPort, args[0])
				})
			})
		},
	}
}

// portArgs asks for an instance and ports.
func portArgs(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return usage(cmd, fmt.Errorf("%d arguments: expected the name or id of an instance and ports, such as: %s web 80", len(args), cmd.CommandPath()))
	}
	return nil
}

func parseExposes(texts []string) (all []api.Expose, err error) {
	for _, text := range texts {
		e, err := api.ParseExpose(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return nil, errors.New("no port")
	}
	return all, nil
}

// endpointText is where a port is offered and where it leads.
func endpointText(e api.Endpoint) string {
	text := fmt.Sprintf("%s → vm:%d", e.URL, e.GuestPort)
	if e.Trouble != "" {
		text += " (closed: " + printable(e.Trouble) + ")"
	}
	return text
}

// exposedText tells what is offered, or, where the router has not said yet,
// what is to be.
func exposedText(in api.Instance) string {
	var parts []string
	for _, e := range in.Endpoints {
		parts = append(parts, endpointText(e))
	}
	if parts == nil {
		for _, e := range in.Exposes {
			parts = append(parts, e.String())
		}
	}
	return strings.Join(parts, ", ")
}

// portReasons says what the ports of an instance have to do with its state.
func portReasons(in api.Instance) (lines []string) {
	if n := in.ActiveConnections; n > 0 {
		lines = append(lines, fmt.Sprintf("it is used: connections to its ports and clients of its programs: %d", n))
	}
	for _, e := range in.Endpoints {
		if e.Trouble != "" {
			lines = append(lines, "port: "+endpointText(e))
		}
	}
	woken := in.Enabled && len(in.Endpoints) > 0
	switch {
	case woken && in.Phase.State() == api.StatePaused, woken && atRest(in.Phase) && in.Restart == api.RestartOnDemand:
		lines = append(lines, "a connection wakes it: "+in.Endpoints[0].URL)
	case woken && atRest(in.Phase):
		lines = append(lines, fmt.Sprintf("connections are refused: its policy is %s and not on-demand", in.Restart))
	}
	return lines
}
