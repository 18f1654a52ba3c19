package fake

import (
	"context"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Activity tells what Work has said.
func (g *guest) Activity(context.Context, *proto.Empty) (*proto.ActivityResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked++
	return &proto.ActivityResponse{CpuNanos: g.worked, NetworkBytes: g.sent}, nil
}

// Work makes the programs of the guest look as if they had used so much more
// processor time, in nanoseconds, and network, in bytes.
func (m *Machine) Work(cpu, network uint64) {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	m.guest.worked += cpu
	m.guest.sent += network
}

// Asked counts the questions for the guest's activity.
func (m *Machine) Asked() int {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	return m.guest.asked
}
