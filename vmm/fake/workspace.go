package fake

import (
	"context"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Mount remembers the path; nothing is read from the host.
func (g *guest) Mount(_ context.Context, r *proto.MountRequest) (*proto.MountResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mounted = r.GetPath()
	return &proto.MountResponse{}, nil
}

// Mounted is where the guest has its workspace, empty without one.
func (m *Machine) Mounted() string {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	return m.guest.mounted
}
