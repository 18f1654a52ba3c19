//go:build !linux

package netd

import (
	"context"

	"github.com/xfeldman/aegisvm/api"
)

// Local is not on this system.
type Local struct{ Network }

// Open says that there is no such thing.
func Open(context.Context, Options) (*Local, error) {
	return nil, api.Errorf(api.Unavailable, "only Linux can give machines a network yet")
}

// Close does nothing.
func (*Local) Close() {}
