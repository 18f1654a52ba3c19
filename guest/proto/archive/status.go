package archive

import (
	"errors"
	"io/fs"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// CopyOut is the call of the contract; see Out.
func (s *Server) CopyOut(r *proto.CopyOutRequest) (*proto.Empty, error) {
	return answer(s.Out(r.GetId(), r.GetPath(), r.GetFollow()))
}

// CopyIn is the call of the contract; see In.
func (s *Server) CopyIn(r *proto.CopyInRequest) (*proto.Empty, error) {
	return answer(s.In(r.GetId(), r.GetPath(), r.GetExtract(), r.GetOwner()))
}

// answer gives an error the code that the host knows it by.
func answer(err error) (*proto.Empty, error) {
	code := codes.Internal
	switch {
	case err == nil:
		return &proto.Empty{}, nil
	case errors.Is(err, fs.ErrNotExist):
		code = codes.NotFound
	case errors.Is(err, ErrMany):
		code = codes.ResourceExhausted
	case errors.Is(err, ErrExists):
		code = codes.AlreadyExists
	case errors.Is(err, ErrInvalid), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		code = codes.InvalidArgument
	}
	return nil, status.Error(code, err.Error())
}
