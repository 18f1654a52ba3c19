package service

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// CopyOut prepares a copy to the host.
func (s *Service) CopyOut(_ context.Context, r *proto.CopyOutRequest) (*proto.Empty, error) {
	if err := s.known(); err != nil {
		return nil, err
	}
	return s.copies.CopyOut(r)
}

// CopyIn prepares a copy from the host.
func (s *Service) CopyIn(_ context.Context, r *proto.CopyInRequest) (*proto.Empty, error) {
	if err := s.known(); err != nil {
		return nil, err
	}
	return s.copies.CopyIn(r)
}

// known refuses what nobody may ask of a machine that is nobody's yet.
func (s *Service) known() error {
	if !s.named.Load() {
		return status.Error(codes.FailedPrecondition, "nothing is copied before SetIdentity")
	}
	return nil
}
