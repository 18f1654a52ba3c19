package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/netd/user"
	"github.com/xfeldman/aegisvm/router/dns"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/manager"
)

// ownNetwork is the network that this process gives machines, if it can, and
// who answers their guests for names.
type ownNetwork struct {
	// network is nil where there is none; none says why.
	network netd.Network
	none    string
	// taps or stacks are how machines get it; one of them at most is there.
	taps   manager.Taps
	stacks manager.Stacks
	close  func()
}

// openNetwork gives machines networks: with taps where our rights and the host
// allow it, else in user mode where the driver can, or says why not: then
// machines have none.
func openNetwork(ctx context.Context, o options, d vmm.Driver, log *slog.Logger) ownNetwork {
	why := "--network user asks for it"
	if o.network != networkUser {
		own, err := openTaps(ctx, o, log)
		if err == nil {
			return own
		}
		why = err.Error()
	}
	if o.network == networkTap {
		return noNetwork(why, log)
	}
	own, err := openStacks(ctx, o, d, why, log)
	if err != nil {
		return noNetwork(err.Error(), log)
	}
	log.Info("machines have networks in user mode", "why", why)
	return own
}

func noNetwork(why string, log *slog.Logger) ownNetwork {
	log.Warn("machines have no network", "error", why)
	return ownNetwork{none: why, close: func() {}}
}

// openTaps gives machines links to the host's kernel.
func openTaps(ctx context.Context, o options, log *slog.Logger) (ownNetwork, error) {
	deaf := dns.CanListen(ctx, lease.DefaultPools[0].Addr().Next())
	n, err := host.Open(ctx, host.Options{
		Dir: filepath.Join(o.state, "networks"), Owner: o.home, DNS: deaf == nil, Log: log,
	})
	if err != nil {
		return ownNetwork{}, err
	}
	if deaf != nil {
		log.Warn("guests have no resolver", "error", deaf)
		return ownNetwork{network: n, taps: n, close: n.Close}, nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	front := dns.NewFront(dns.FrontConfig{
		Options: dns.Options{Names: n, Upstreams: dns.Follow(ctx, o.resolvConf, log).Upstreams, Log: log},
	})
	gateways, _ := n.Gateways(ctx) // it fails over a bus only
	go func() {                    // ends with ctx
		for all := range gateways {
			front.Set(all)
		}
	}()
	return ownNetwork{network: n, taps: n, close: func() {
		cancel()
		front.Close()
		n.Close()
	}}, nil
}

// openStacks gives machines networks that need no rights; why says why they
// have no taps.
func openStacks(ctx context.Context, o options, d vmm.Driver, why string, log *slog.Logger) (ownNetwork, error) {
	can, err := d.Probe(ctx)
	if err != nil {
		return ownNetwork{}, err
	}
	if !can.Frames {
		return ownNetwork{}, api.Errorf(api.Unavailable, "%s; and %s has no network in user mode: say AEGIS_VMM=qemu", why, can.Driver)
	}
	n, err := user.Open(user.Options{Dir: filepath.Join(o.state, "networks", "user"), DNS: true, Why: why, Log: log})
	if err != nil {
		return ownNetwork{}, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	asked := dns.Options{Names: n, Upstreams: dns.Follow(ctx, o.resolvConf, log).Upstreams, Log: log}
	packets, streams := n.Names()
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		if err := dns.Serve(ctx, asked, packets, streams); err != nil {
			log.Error("guests get no answers for names", "error", err)
		}
	}()
	return ownNetwork{network: n, stacks: n, close: func() {
		cancel()
		<-done
		n.Close()
	}}, nil
}
