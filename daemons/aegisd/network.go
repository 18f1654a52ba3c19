package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/lease"
	"github.com/xfeldman/aegisvm/router/dns"
	"github.com/xfeldman/aegisvm/vmm/manager"
)

// ownNetwork is the network that this process gives machines, if it can, and
// who answers their guests for names, if it may.
type ownNetwork struct {
	*host.Network
	front *dns.Front
	// ends the following of gateways.
	cancel context.CancelFunc
}

// openNetwork gives machines networks where our rights and the host allow it,
// or says why not: then machines have none.
func openNetwork(ctx context.Context, o options, log *slog.Logger) (ownNetwork, string) {
	deaf := dns.CanListen(ctx, lease.DefaultPools[0].Addr().Next())
	if deaf != nil {
		log.Warn("guests have no resolver", "error", deaf)
	}
	n, err := host.Open(ctx, host.Options{
		Dir: filepath.Join(o.state, "networks"), Owner: o.home, DNS: deaf == nil, Log: log,
	})
	if err != nil {
		log.Info("machines have no network", "error", err)
		return ownNetwork{}, err.Error()
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	own := ownNetwork{Network: n, cancel: cancel}
	if deaf == nil {
		own.front = dns.NewFront(dns.FrontConfig{
			Options: dns.Options{Names: n, Upstreams: dns.Follow(ctx, o.resolvConf, log).Upstreams, Log: log},
		})
		gateways, _ := n.Gateways(ctx) // it fails over a bus only
		go func() {
			for all := range gateways {
				own.front.Set(all)
			}
		}()
	}
	return own, ""
}

// An interface with no network in it is not one that is nil.

func (n ownNetwork) network() netd.Network {
	if n.Network == nil {
		return nil
	}
	return n.Network
}

func (n ownNetwork) taps() manager.Taps {
	if n.Network == nil {
		return nil
	}
	return n.Network
}

func (n ownNetwork) close() {
	if n.Network == nil {
		return
	}
	n.cancel()
	if n.front != nil {
		n.front.Close()
	}
	n.Close()
}
