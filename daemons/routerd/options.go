package main

import (
	"cmp"
	"flag"
	"fmt"
	"time"

	"github.com/xfeldman/aegisvm/router/dns"
)

// options are the command line and the environment.
type options struct {
	bus, state, client, resolvConf string
	ready                          time.Duration
	version                        bool
}

// longestReady bounds how long a connection can be left without an answer.
const longestReady = 10 * time.Minute

func parse(args []string, env func(string) string) (o options, err error) {
	f := flag.NewFlagSet("aegis-routerd", flag.ContinueOnError)
	f.StringVar(&o.bus, "bus", "system", "D-Bus `address` to serve on")
	f.StringVar(&o.state, "state", cmp.Or(env("STATE_DIRECTORY"), "/var/lib/aegis/routerd"), "`directory` of the table of ports (default $STATE_DIRECTORY)")
	f.StringVar(&o.client, "client", "aegis", "`user` who may call, besides root")
	f.DurationVar(&o.ready, "ready-timeout", time.Minute, "how long after its start a program may take to listen")
	f.StringVar(&o.resolvConf, "resolv-conf", dns.ResolvConf, "`file` that names the resolvers that are asked for guests")
	f.BoolVar(&o.version, "version", false, "print the version")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: see aegis-routerd --help", f.Arg(0))
	case o.ready < time.Millisecond || o.ready > longestReady:
		return o, fmt.Errorf("ready timeout %v: expected 1ms to %v", o.ready, longestReady)
	}
	return o, nil
}
