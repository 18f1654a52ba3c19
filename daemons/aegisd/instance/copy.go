package instance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/guestsession"
)

// maxPath is the longest path that a guest's kernel takes.
const maxPath = 4095

// CopyFrom implements api.Aegis.
func (s *Service) CopyFrom(ctx context.Context, ref string, spec api.CopyFromSpec) (*api.Streams, error) {
	return s.copy(ctx, ref, spec.Path, true, func(ctx context.Context, gs *guestsession.Session, id string) error {
		return gs.CopyOut(ctx, id, spec.Path, spec.FollowLink)
	})
}

// CopyTo implements api.Aegis.
func (s *Service) CopyTo(ctx context.Context, ref string, spec api.CopyToSpec) (*api.Streams, error) {
	return s.copy(ctx, ref, spec.Path, false, func(ctx context.Context, gs *guestsession.Session, id string) error {
		return gs.CopyIn(ctx, id, spec.Path, spec.Extract, spec.Owner)
	})
}

// copy asks the guest for a copy and connects the client with it. A copy that
// nobody dials is forgotten by the guest.
func (s *Service) copy(ctx context.Context, ref, path string, out bool, ask func(context.Context, *guestsession.Session, string) error) (*api.Streams, error) {
	if path == "" || len(path) > maxPath || strings.ContainsRune(path, 0) {
		return nil, invalid("path %q: expected 1 to %d bytes without a NUL", shorten(path), maxPath)
	}
	r, err := s.wakened(ctx, ref, "a copy")
	if err != nil {
		return nil, err
	}
	id := newCopyID()
	if err := r.prepareCopy(id, ask); err != nil {
		return nil, err
	}
	s.Log.Info("copy", "instance", r.o.id, "copy", id, "out", out)
	session, err := r.o.openExec(ctx, r.b, nil)
	if err != nil {
		return nil, atBoundary(err)
	}
	streams, err := guestsession.CopyStreams(r.b.ctx, r.o.dial(r.b), id, out)
	if err != nil {
		session.Close()
		return nil, api.Errorf(api.Unavailable, "instance %s: %w", r.o.id, err)
	}
	streams.Session = session
	return streams, nil
}

// prepareCopy is call with refusals that are about files.
func (r *running) prepareCopy(id string, ask func(context.Context, *guestsession.Session, string) error) error {
	var refused error
	err := r.call(id, func(ctx context.Context, gs *guestsession.Session) error {
		err := ask(ctx, gs, id)
		if errors.Is(err, guestsession.ErrNoFile) || errors.Is(err, guestsession.ErrPath) {
			refused = err
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case errors.Is(refused, guestsession.ErrNoFile):
		return api.Errorf(api.NotFound, "instance %s: %w", r.o.id, refused)
	case refused != nil:
		return api.Errorf(api.InvalidArgument, "instance %s: %w", r.o.id, refused)
	}
	return nil
}

func newCopyID() string {
	id := make([]byte, 6)
	rand.Read(id)
	return "copy-" + hex.EncodeToString(id)
}
