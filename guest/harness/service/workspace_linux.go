package service

import (
	"context"
	"path"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/harness/process"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// Workspace mounts what the host serves.
type Workspace interface {
	// Mount mounts it on a path, once.
	Mount(path string) error
	// Offer takes possession of a stream of its port.
	Offer(process.Conn)
}

// WithWorkspace makes the service take the streams and calls of a workspace.
func (s *Service) WithWorkspace(w Workspace) *Service {
	s.workspace = w
	proto.RegisterWorkspaceService(s.rpc, s)
	return s
}

// Mount mounts the workspace.
func (s *Service) Mount(_ context.Context, r *proto.MountRequest) (*proto.MountResponse, error) {
	if p := r.GetPath(); !path.IsAbs(p) || path.Clean(p) != p || p == "/" {
		return nil, status.Errorf(codes.InvalidArgument, "path %q: expected an absolute path below /", p)
	}
	if err := s.workspace.Mount(r.GetPath()); err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &proto.MountResponse{}, nil
}

// offer hands a stream to the workspace, if this guest has one.
func (s *Service) offer(c process.Conn) {
	if s.workspace == nil {
		c.Close()
		return
	}
	s.workspace.Offer(c)
}
