// Package imagebus carries an image.Store over D-Bus as org.aegisvm.Image1:
// Serve exports one, Client is one. It owns no image and no disk; files cross
// as descriptors.
package imagebus

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/image"
)

// Serve exports the store on conn to root and the named user, claims the name
// org.aegisvm.Image1, calls ready, if not nil, and returns when ctx (nil) or
// the connection (Unavailable) has ended. Where there is no such user, only
// root may call.
func Serve(ctx context.Context, conn *bus.Conn, store image.Store, client string, ready func()) error {
	s := &server{store}
	uids, err := bus.Users(client)
	if err != nil {
		return err
	}
	root, err := conn.Export(bus.ImagePath, bus.Interface{
		Name: bus.ImageManager, Allow: bus.AllowUIDs(uids...),
		Methods: s.methods(), Properties: bus.Properties{"Version": api.Version},
	})
	if err != nil {
		return err
	}
	defer root.Unexport()
	return conn.Hold(ctx, bus.ImageName, ready)
}

type server struct{ store image.Store }

func (s *server) methods() bus.Methods {
	return s.withLibrary(bus.Methods{
		"Prepare": s.prepare,
		"Open": func(ctx context.Context, r *bus.Request, digest string) (dbus.UnixFD, error) {
			f, err := s.store.Open(ctx, digest)
			return r.Send(f), err
		},
		"ListImages": s.list,
		"CreateDisk": func(ctx context.Context, _ *bus.Request, id string, size int64) error {
			return s.store.CreateDisk(ctx, id, size)
		},
		"OpenDisk": func(ctx context.Context, r *bus.Request, id string) (dbus.UnixFD, error) {
			f, err := s.store.OpenDisk(ctx, id)
			return r.Send(f), err
		},
		"DeleteDisk": func(ctx context.Context, _ *bus.Request, id string) error {
			return s.store.DeleteDisk(ctx, id)
		},
		"ListDisks": func(ctx context.Context, _ *bus.Request) ([]string, error) {
			return s.store.Disks(ctx)
		},
	})
}

func (s *server) list(ctx context.Context, _ *bus.Request) ([]bus.Dict, error) {
	images, err := s.store.List(ctx)
	return bus.ToDicts(images, err)
}

func (s *server) prepare(ctx context.Context, r *bus.Request, ref string, fd dbus.UnixFD) (d bus.Dict, err error) {
	err = during(ctx, r.File(fd), func(ctx context.Context, report func(image.Progress)) error {
		img, err := s.store.Prepare(ctx, ref, report)
		d, err = dict(img, err)
		return err
	})
	return d, err
}

// during works as long as the caller holds the other end of the session.
func during(ctx context.Context, f *os.File, work func(context.Context, func(image.Progress)) error) error {
	conn, err := session(f)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with conn
		io.Copy(io.Discard, conn)
		cancel()
	}()
	return work(ctx, reporter(conn))
}

func dict(v any, err error) (bus.Dict, error) {
	if err != nil {
		return nil, err
	}
	return bus.ToDict(v)
}

func session(f *os.File) (net.Conn, error) {
	if f == nil {
		return nil, api.Errorf(api.InvalidArgument, "no session was sent: a stream socket expected")
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "the session is no socket: a stream socket expected: %w", err)
	}
	return conn, nil
}

// patience is how long a caller may leave its progress unread before it gets
// no more of it.
const patience = time.Second

// reporter writes progress to a session. The first failure ends it, so that
// no half line is followed by another.
func reporter(conn net.Conn) func(image.Progress) {
	failed := false
	return func(p image.Progress) {
		if failed {
			return
		}
		line, err := json.Marshal(p)
		if err == nil {
			err = conn.SetWriteDeadline(time.Now().Add(patience))
		}
		if err == nil {
			_, err = fmt.Fprintf(conn, "%s\n", line)
		}
		failed = err != nil
	}
}
