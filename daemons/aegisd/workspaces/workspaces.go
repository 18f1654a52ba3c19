// Package workspaces owns which folders instances work in, those with a name
// and those of users, and sees to it that each guest with one has its server.
// It never looks into a folder: that is the servers', each a process of its own
// with the rights of the folder's owner, which it asks through package door.
package workspaces

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// Config is what a Keeper needs.
type Config struct {
	// Named has the folders with names.
	Named string
	// Everybody tells that in it each user has a folder of their own; else all
	// are ours.
	Everybody bool
	// State has a folder for each machine that is served. Empty where it is out
	// of our sight.
	State string
	// Connect reaches a server: Spawn or Dial.
	Connect Connect
	Log     *slog.Logger
}

// Keeper keeps workspaces.
type Keeper struct{ Config }

// New makes a keeper.
func New(c Config) *Keeper { return &Keeper{c} }

// Place is the folder of an instance.
type Place struct {
	Owner uint32
	// Folder is an absolute path or a name.
	Folder string
}

// PlaceOf is the folder of an instance that asks for ref. The automatic one is
// named after the instance.
func PlaceOf(owner uint32, ref, instance string) Place {
	if ref == door.Auto {
		ref = instance
	}
	return Place{owner, ref}
}

// ask makes one request.
func (k *Keeper) ask(ctx context.Context, p Place, r door.Request, data *os.File) (door.Answer, *os.File, error) {
	r.Owner, r.Folder = p.Owner, p.Folder
	s, err := k.Connect(ctx)
	if err != nil {
		return door.Answer{}, nil, err
	}
	defer s.end()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	a, f, err := door.Ask(s.UnixConn, r, data)
	var refused *api.Error
	switch {
	case err == nil, errors.As(err, &refused):
	case ctx.Err() != nil:
		err = api.Errorf(api.Unavailable, "workspace: request given up: %w", context.Cause(ctx))
	default:
		err = api.Errorf(api.Unavailable, "workspace: its server ended before it answered: %w: see its log", err)
	}
	return a, f, err
}

// tell makes a request that is answered by success alone.
func (k *Keeper) tell(ctx context.Context, p Place, r door.Request, data *os.File) error {
	_, f, err := k.ask(ctx, p, r, data)
	if f != nil {
		f.Close()
	}
	return err
}

// Admit refuses a workspace that is not there or that the owner may not enter,
// and makes the folder of one that has a name.
func (k *Keeper) Admit(ctx context.Context, p Place) error {
	return k.tell(ctx, p, door.Request{Verb: door.Admit}, nil)
}

// Remove deletes a named workspace with all that is in it. A folder that is
// only half gone after a crash has no name any more, and goes at the next
// Sweep.
func (k *Keeper) Remove(ctx context.Context, p Place) error {
	return k.tell(ctx, p, door.Request{Verb: door.Remove}, nil)
}

// Tree tells the entries of a folder in a workspace.
func (k *Keeper) Tree(ctx context.Context, p Place, path string) (all []api.FileEntry, err error) {
	_, f, err := k.ask(ctx, p, door.Request{Verb: door.Tree, Path: path}, nil)
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errNothing
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, maxTree)).Decode(&all); err != nil {
		return nil, fmt.Errorf("reading the entries: %w", err)
	}
	return all, nil
}

// maxTree bounds what is read of a server about one folder.
const maxTree = 64 << 20

var errNothing = api.Errorf(api.Internal, "workspace: its server answered without a file")

// Read opens a file of a workspace.
func (k *Keeper) Read(ctx context.Context, p Place, path string) (*os.File, error) {
	_, f, err := k.ask(ctx, p, door.Request{Verb: door.Read, Path: path}, nil)
	if err == nil && f == nil {
		err = errNothing
	}
	return f, err
}

// Write replaces a file of a workspace.
func (k *Keeper) Write(ctx context.Context, p Place, path string, data *os.File) error {
	return k.tell(ctx, p, door.Request{Verb: door.Write, Path: path}, data)
}

// Put keeps an image in a workspace.
func (k *Keeper) Put(ctx context.Context, p Place, mediaType string, data *os.File) (api.Blob, error) {
	a, f, err := k.ask(ctx, p, door.Request{Verb: door.Blob, MediaType: mediaType}, data)
	if f != nil {
		f.Close()
	}
	if err == nil && a.Blob == nil {
		err = errNothing
	}
	if err != nil {
		return api.Blob{}, err
	}
	return *a.Blob, nil
}

// List tells the named workspaces, by name and owner.
func (k *Keeper) List() ([]api.Workspace, error) {
	all := []api.Workspace{}
	err := k.each(func(dir string, info fs.FileInfo, uid uint32) {
		if name := info.Name(); !strings.HasPrefix(name, ".") {
			all = append(all, api.Workspace{Name: name, Path: filepath.Join(dir, name), OwnerUID: uid, ModifiedAt: info.ModTime().UTC()})
		}
	})
	slices.SortFunc(all, func(a, b api.Workspace) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.OwnerUID, b.OwnerUID))
	})
	return all, err
}

// each calls f for all folders that are kept, with names and without.
func (k *Keeper) each(f func(dir string, info fs.FileInfo, uid uint32)) error {
	if !k.Everybody {
		return folders(k.Named, func(info fs.FileInfo) {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				f(k.Named, info, st.Uid)
			}
		})
	}
	var failed []error
	err := folders(k.Named, func(user fs.FileInfo) {
		uid, err := strconv.ParseUint(user.Name(), 10, 32)
		if err != nil {
			return
		}
		dir := filepath.Join(k.Named, user.Name())
		failed = append(failed, folders(dir, func(info fs.FileInfo) { f(dir, info, uint32(uid)) }))
	})
	return errors.Join(append(failed, err)...)
}

// folders calls f for each folder in dir.
func folders(dir string, f func(fs.FileInfo)) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing workspaces: %w", err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.IsDir() { // else it went meanwhile, or is none
			f(info)
		}
	}
	return nil
}

// Forget forgets what the server of a machine knew. The machine is gone, and
// its server as well.
func (k *Keeper) Forget(ctx context.Context, machine string) {
	p := Place{Owner: uint32(os.Geteuid())} // whose it was does not matter
	if err := k.tell(ctx, p, door.Request{Verb: door.Forget, Machine: machine}, nil); err != nil {
		k.Log.Warn("the state of a workspace's server is left", "machine", machine, "error", err)
	}
}

// Sweep removes what a crash has left: the state of machines that are not
// there, and workspaces that were being removed.
func (k *Keeper) Sweep(ctx context.Context, there func(machine string) bool) {
	machines, _ := os.ReadDir(k.State)
	for _, d := range machines {
		if !there(d.Name()) {
			k.Forget(ctx, d.Name())
		}
	}
	left := map[uint32]bool{}
	err := k.each(func(_ string, info fs.FileInfo, uid uint32) {
		left[uid] = left[uid] || strings.HasPrefix(info.Name(), ".")
	})
	for uid, some := range left {
		if some {
			err = errors.Join(err, k.Remove(ctx, Place{Owner: uid}))
		}
	}
	if err != nil {
		k.Log.Warn("removed workspaces are left", "error", err)
	}
}
