//go:build !linux

package host

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
)

// Network is not on this system.
type Network struct{ netd.Network }

// Open says that there is no such thing.
func Open(context.Context, Options) (*Network, error) {
	return nil, api.Errorf(api.Unavailable, "only Linux can give machines a network yet")
}

// Close does nothing.
func (*Network) Close() {}
