package guestsession

import (
	"context"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto"
)

// ErrNoFile is wrapped by a copy of what is not there, ErrPath by one that
// cannot be; the guest's words say more.
var (
	ErrNoFile = errors.New("no such file or folder")
	ErrPath   = errors.New("it cannot be copied so")
)

// CopyOut prepares a copy out of the guest; CopyStreams gives its streams.
func (s *Session) CopyOut(ctx context.Context, id, path string, follow bool) error {
	return s.copy(ctx, func(ctx context.Context) error {
		_, err := s.guest.CopyOut(ctx, &proto.CopyOutRequest{Id: id, Path: path, Follow: follow})
		return err
	})
}

// CopyIn prepares a copy into the guest.
func (s *Session) CopyIn(ctx context.Context, id, path string, extract, owner bool) error {
	return s.copy(ctx, func(ctx context.Context) error {
		_, err := s.guest.CopyIn(ctx, &proto.CopyInRequest{Id: id, Path: path, Extract: extract, Owner: owner})
		return err
	})
}

// copy makes a call whose refusals are about files.
func (s *Session) copy(ctx context.Context, call func(context.Context) error) error {
	return s.call(ctx, "copying", callTimeout, func(ctx context.Context) error {
		err := call(ctx)
		switch words := clean(status.Convert(err).Message()); status.Code(err) {
		case codes.NotFound:
			return refusedCopy{ErrNoFile, words}
		case codes.InvalidArgument:
			return refusedCopy{ErrPath, words}
		case codes.ResourceExhausted:
			return refusedCopy{ErrMany, words}
		}
		return err
	})
}

// refusedCopy is a refusal in the guest's words.
type refusedCopy struct {
	kind  error
	words string
}

func (e refusedCopy) Error() string { return e.words }
func (e refusedCopy) Unwrap() error { return e.kind }

// CopyStreams dials the bytes of a copy, as Stdout of one out of the guest and
// as Stdin of one into it, and its status.
func CopyStreams(ctx context.Context, dial Dial, id string, out bool) (*api.Streams, error) {
	streams := &api.Streams{}
	bytes := &streams.Stdin
	if out {
		bytes = &streams.Stdout
	}
	streams, err := dialAll(ctx, dial, id, streams, map[proto.Kind]**os.File{proto.Archive: bytes, proto.Status: &streams.Status})
	if err != nil {
		return nil, fmt.Errorf("connecting the copy: %w", err)
	}
	return streams, nil
}
