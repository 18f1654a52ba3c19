package fake

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// SetTime remembers what time it is told to be.
func (g *guest) SetTime(_ context.Context, r *proto.Time) (*proto.Empty, error) {
	if r.GetUnixNano() <= 0 {
		return nil, status.Errorf(codes.InvalidArgument, "%d ns since 1970, more than 0 expected", r.GetUnixNano())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.times = append(g.times, r.GetUnixNano())
	return &proto.Empty{}, nil
}

// Times are what SetTime was called with, in nanoseconds since 1970.
func (m *Machine) Times() []int64 {
	m.guest.mu.Lock()
	defer m.guest.mu.Unlock()
	return slices.Clone(m.guest.times)
}
