//go:build !linux

package cloudhypervisor

import (
	"context"
	"fmt"

	"github.com/xfeldman/aegisvm/vmm"
)

// Start fails: Cloud Hypervisor needs Linux.
func (d *Driver) Start(_ context.Context, p vmm.Plan) (vmm.Machine, error) {
	return nil, fmt.Errorf("starting machine %q with cloud-hypervisor outside Linux: %w", p.ID, vmm.ErrUnsupported)
}
