//go:build !linux

package qemu

import (
	"context"
	"fmt"

	"github.com/xfeldman/aegisvm/vmm"
)

// Start fails: the driver needs Linux.
func (d *Driver) Start(_ context.Context, p vmm.Plan) (vmm.Machine, error) {
	return nil, fmt.Errorf("starting machine %q with qemu outside Linux: %w", p.ID, vmm.ErrUnsupported)
}
