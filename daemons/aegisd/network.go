package main

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/vmm/manager"
)

// ownNetwork is the network that this process gives machines, if it can.
type ownNetwork struct{ *host.Network }

// openNetwork gives machines networks where our rights and the host allow it,
// or says why not: then machines have none.
func openNetwork(ctx context.Context, o options, log *slog.Logger) (ownNetwork, string) {
	n, err := host.Open(ctx, host.Options{Dir: filepath.Join(o.state, "networks"), Owner: o.home, Log: log})
	if err != nil {
		log.Info("machines have no network", "error", err)
		return ownNetwork{}, err.Error()
	}
	return ownNetwork{n}, ""
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
	if n.Network != nil {
		n.Close()
	}
}
