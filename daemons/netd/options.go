package main

import (
	"flag"
	"fmt"
	"net/netip"
	"strings"

	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/netbus"
)

// options are the command line.
type options struct {
	bus, dir     string
	pools        []netip.Prefix
	callers      netbus.Callers
	dns, version bool
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("aegis-netd", flag.ContinueOnError)
	f.StringVar(&o.bus, "bus", "system", "D-Bus `address` to serve on")
	f.StringVar(&o.dir, "dir", "/run/aegis/net", "`directory` of leases")
	pools := f.String("pools", "", "`networks` that guests get addresses from, separated by commas (default 10.213.0.0/16 and some more)")
	f.StringVar(&o.callers.Manager, "client", "aegis", "`user` who may give networks, besides root")
	f.StringVar(&o.callers.Names, "resolver", "aegis-router", "`user` who resolves the guests' names, besides root")
	f.BoolVar(&o.dns, "dns", false, "let guests ask for names at their gateway's port 53, because somebody answers there")
	f.BoolVar(&o.version, "version", false, "print the version")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q: see aegis-netd --help", f.Arg(0))
	}
	for text := range strings.SplitSeq(*pools, ",") {
		if *pools == "" {
			break
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return o, fmt.Errorf("pool %q: expected a network, such as 10.213.0.0/16", text)
		}
		o.pools = append(o.pools, p)
	}
	return o, lease.CheckPools(o.pools)
}
