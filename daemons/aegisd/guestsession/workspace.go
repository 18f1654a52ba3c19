package guestsession

import (
	"context"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Mount makes the guest mount its workspace on a path; the host serves it by
// then. Its other exits are the end of ctx and callTimeout.
func (s *Session) Mount(ctx context.Context, path string) error {
	return s.call(ctx, "mounting the workspace", callTimeout, func(ctx context.Context) error {
		_, err := proto.NewWorkspaceClient(s.client).Mount(ctx, &proto.MountRequest{Path: path})
		return err
	})
}
