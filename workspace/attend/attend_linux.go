package attend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace"
	"github.com/xfeldman/aegisvm/workspace/door"
	"github.com/xfeldman/aegisvm/workspace/files"
)

// Config is what answering stands on.
type Config struct {
	// State has a folder for what the server of each machine must know.
	State string
	// Named has the folders with names.
	Named string
	// Apart is what no workspace may contain, and that may not contain one:
	// aegisd's own state.
	Apart string
	// Peer is who may ask.
	Peer uint32
	// Everybody serves every user of the host, each with named folders of their
	// own: we are root and become the owner. Otherwise the owner is ourselves.
	Everybody bool
	// Alone tells that this process is for the one request: it gives up for good
	// what that does not need, and the kernel lets it reach the folder and the
	// state and nothing else.
	Alone bool
	// Tell is told what is done, for a person to read.
	Tell func(string)
	Log  *slog.Logger
}

// Attend answers the request that comes over conn, a connection of packets.
// What a request is refused for is no error.
func Attend(ctx context.Context, conn *net.UnixConn, c Config) error {
	if err := c.known(conn); err != nil {
		return err
	}
	a := &attendant{Config: c, conn: conn}
	r, data, err := door.Take(conn)
	if err == nil {
		if data != nil {
			defer data.Close()
		}
		a.Request = r
		a.Log = a.Log.With("verb", r.Verb, "machine", r.Machine, "owner", r.Owner, "folder", r.Folder)
		err = a.answer(ctx, data)
	}
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*api.Error](err); ok {
		return door.Refuse(conn, refusal)
	}
	if gone := (goneError{}); errors.As(err, &gone) {
		return gone.error
	}
	return errors.Join(err, door.Refuse(conn, err))
}

// goneError is a failure after the answer.
type goneError struct{ error }

// known refuses all who may not ask, who could not have connected either.
func (c Config) known(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var who *unix.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) { who, refused = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, refused); err != nil {
		return fmt.Errorf("asking who asks: %w", err)
	}
	if who.Uid != c.Peer {
		return fmt.Errorf("uid %d asks: only %d may", who.Uid, c.Peer)
	}
	return nil
}

// attendant answers one request.
type attendant struct {
	Config
	door.Request
	conn *net.UnixConn
}

// answer carries the request out. Which steps need to be root's is seen here:
// all that are before become.
func (a *attendant) answer(ctx context.Context, data *os.File) error {
	if !a.Everybody && a.Owner != uint32(os.Geteuid()) {
		return api.Errorf(api.Denied, "workspace %q: this aegisd serves workspaces of uid %d alone, not of %d: start an aegisd of your own", door.Shorten(a.Folder), os.Geteuid(), a.Owner)
	}
	switch a.Verb {
	case door.Forget:
		return a.done(a.forget())
	case door.Serve:
		return a.serve(ctx)
	}
	if err := a.prepareNamed(); err != nil {
		return err
	}
	if err := a.become(); err != nil {
		return err
	}
	switch a.Verb {
	case door.Admit:
		folder, err := a.open(true)
		if err == nil {
			folder.Close()
		}
		return a.done(err)
	case door.Remove:
		return a.done(a.remove())
	}
	return a.handle(data)
}

func (a *attendant) done(err error) error {
	if err != nil {
		return err
	}
	return door.Reply(a.conn, door.Answer{}, nil)
}

// serve serves a guest until aegisd or ctx ends it.
func (a *attendant) serve(ctx context.Context) error {
	state, err := a.openState()
	if err != nil {
		return err
	}
	defer state.Close()
	if err := errors.Join(a.prepareNamed(), a.become()); err != nil {
		return err
	}
	held, err := lock(state)
	if err != nil {
		return err
	}
	defer held.Close()
	folder, err := a.open(true)
	if err != nil {
		return err
	}
	defer folder.Close()
	s, err := workspace.Open(workspace.Config{Root: folder, State: pathOf(state), Log: a.Log})
	if err != nil {
		return err
	}
	defer s.Close()
	a.Log.Info("serving")
	a.Tell(fmt.Sprintf("machine %s: %s for uid %d", a.Machine, nameOf(folder), a.Owner))
	if err := a.confine(folder, state); err != nil {
		return err
	}
	if err := a.done(nil); err != nil {
		return goneError{err}
	}
	if err := s.ServeStreams(ctx, a.conn); err != nil {
		return goneError{err}
	}
	return nil
}

// handle reads or writes single files.
func (a *attendant) handle(data *os.File) error {
	folder, err := a.open(false)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := a.confine(folder); err != nil {
		return err
	}
	in := files.Folder{Root: folder}
	switch a.Verb {
	case door.Tree:
		return a.tree(in)
	case door.Read:
		f, err := in.Open(a.Path)
		if err != nil {
			return err
		}
		defer f.Close()
		return door.Reply(a.conn, door.Answer{}, f)
	}
	if data == nil {
		return api.Errorf(api.InvalidArgument, "%s without data", a.Verb)
	}
	if st, err := data.Stat(); err != nil || !st.Mode().IsRegular() {
		return api.Errorf(api.InvalidArgument, "the data is no regular file: write it to one first")
	}
	if a.Verb == door.Write {
		return a.done(in.Write(a.Path, data))
	}
	blob, err := in.Put(a.MediaType, data)
	if err != nil {
		return err
	}
	return door.Reply(a.conn, door.Answer{Blob: &blob}, nil)
}

// tree answers with the entries in a file without a name: there may be more of
// them than a message holds.
func (a *attendant) tree(in files.Folder) error {
	entries, err := in.Tree(a.Path)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("entries", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	f := os.NewFile(uintptr(fd), "entries")
	defer f.Close()
	if err := json.NewEncoder(f).Encode(entries); err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	return door.Reply(a.conn, door.Answer{}, f)
}
