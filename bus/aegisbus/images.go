package aegisbus

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
)

// imageMethods are the root's methods of images.
func (s *Server) imageMethods() bus.Methods {
	return bus.Methods{
		"ListImages": func(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
			all, err := s.aegis.ListImages(ctx)
			return bus.ToDicts(all, err)
		},
		"GetImage": func(ctx context.Context, _ *bus.Request, ref string) (bus.Dict, error) {
			img, err := s.aegis.ImageInfo(ctx, ref)
			return dict(img, err)
		},
		"PullImage": s.pullImage,
		"TagImage": func(ctx context.Context, _ *bus.Request, ref, name string) (bus.Dict, error) {
			img, err := s.aegis.TagImage(ctx, ref, name)
			return dict(img, err)
		},
		"RemoveImage": func(ctx context.Context, _ *bus.Request, ref string) error {
			return s.aegis.RemoveImage(ctx, ref)
		},
		"PruneImages": func(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
			removed, err := s.aegis.PruneImages(ctx)
			return bus.ToDicts(removed, err)
		},
		"LoadImage": s.loadImage,
		"SaveImage": s.saveImage,
	}
}

// patience is how long a caller may leave its progress unread before it gets
// no more of it.
const patience = time.Second

// pullImage works as long as the caller holds the other end of the session,
// and writes its progress to it.
func (s *Server) pullImage(ctx context.Context, r *bus.Request, ref, policy string, fd dbus.UnixFD) (bus.Dict, error) {
	session, err := pollable(r.File(fd))
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "session: %w: expected a stream socket", err)
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the session
		io.Copy(io.Discard, session)
		cancel()
	}()
	img, err := s.aegis.PullImage(ctx, ref, api.PullPolicy(policy), reporter(session))
	return dict(img, err)
}

// reporter writes progress as lines. The first failure ends it, so that no
// half line is followed by another.
func reporter(session *os.File) func(api.ImageProgress) {
	failed := false
	return func(p api.ImageProgress) {
		line, err := json.Marshal(p)
		if failed || err != nil {
			return
		}
		session.SetWriteDeadline(time.Now().Add(patience))
		_, err = session.Write(append(line, '\n'))
		failed = err != nil
	}
}

func (s *Server) loadImage(ctx context.Context, r *bus.Request, archive dbus.UnixFD, name string) ([]bus.Dict, error) {
	ctx, cancel, err := s.whileCaller(ctx, r)
	if err != nil {
		return nil, err
	}
	defer cancel()
	all, err := s.aegis.LoadImage(ctx, r.File(archive), name)
	return bus.ToDicts(all, err)
}

func (s *Server) saveImage(ctx context.Context, r *bus.Request, refs []string, to dbus.UnixFD) error {
	ctx, cancel, err := s.whileCaller(ctx, r)
	if err != nil {
		return err
	}
	defer cancel()
	return s.aegis.SaveImage(ctx, refs, r.File(to))
}
