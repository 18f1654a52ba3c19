// Package workspaces owns the folders that instances work in: those with a
// name, which it keeps, and those of users, which it only knows by path; and
// the server that each guest with one has. It never looks into a folder: that
// is the server's, in a process of its own.
package workspaces

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Config is what a Keeper needs.
type Config struct {
	// State is aegisd's own folder. Named workspaces are in it, and no
	// workspace may contain it.
	State string
	// Server is aegis-fsd.
	Server string
	Log    *slog.Logger
}

// Keeper keeps workspaces.
type Keeper struct{ Config }

// New makes a keeper.
func New(c Config) *Keeper { return &Keeper{c} }

// Auto is the workspace of an instance that wants one of its own.
const Auto = "auto"

var nameGrammar = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

const maxName = 63

// CheckName refuses what cannot be the name of a workspace.
func CheckName(name string) error {
	if len(name) > maxName || !nameGrammar.MatchString(name) {
		return api.Errorf(api.InvalidArgument, "workspace %q: expected an absolute path, or a name of at most %d letters, digits, '.', '_' and '-', beginning with a letter or digit", shorten(name), maxName)
	}
	return nil
}

// Check refuses what no instance can have for a workspace, on any host.
func Check(ref string) error {
	switch {
	case ref == "":
		return nil
	case !filepath.IsAbs(ref):
		return CheckName(ref)
	case len(ref) > 4000 || strings.ContainsFunc(ref, func(r rune) bool { return r < ' ' }):
		return api.Errorf(api.InvalidArgument, "workspace %q: expected a path of at most 4000 printable characters", shorten(ref))
	case filepath.Clean(ref) != ref:
		return api.Errorf(api.InvalidArgument, "workspace %q: expected a clean path, such as %s", shorten(ref), shorten(filepath.Clean(ref)))
	}
	return nil
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}

// named is the folder of a named workspace, or of all.
func (k *Keeper) named(name string) string { return filepath.Join(k.State, "workspaces", name) }

// Folder is the folder of a workspace. The automatic one is named after the
// instance.
func (k *Keeper) Folder(ref, instance string) string {
	switch {
	case filepath.IsAbs(ref):
		return ref
	case ref == Auto:
		return k.named(instance)
	}
	return k.named(ref)
}

// Admit refuses a workspace that is not there or not the caller's, and makes
// the folder of one that has a name.
func (k *Keeper) Admit(owner uint32, ref, instance string) error {
	if int(owner) != os.Geteuid() {
		return api.Errorf(api.Denied, "workspace %q: this aegisd serves workspaces of uid %d alone, not of %d: start an aegisd of your own", shorten(ref), os.Geteuid(), owner)
	}
	folder := k.Folder(ref, instance)
	if !filepath.IsAbs(ref) {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return fmt.Errorf("making workspace %q: %w", ref, err)
		}
		return nil
	}
	info, err := os.Stat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "workspace %q is not there: make it, or say --create-workspace", shorten(ref))
	case err != nil:
		return api.Errorf(api.InvalidArgument, "workspace %q: %v", shorten(ref), errors.Unwrap(err))
	case !info.IsDir():
		return api.Errorf(api.InvalidArgument, "workspace %q is no folder: name a folder", shorten(ref))
	}
	return k.apart(ref)
}

// apart refuses a folder that holds our own state, or lies in it: with it a
// guest could rewrite what we know.
func (k *Keeper) apart(ref string) error {
	state, err := filepath.EvalSymlinks(k.State)
	if err != nil {
		return err
	}
	folder, err := filepath.EvalSymlinks(ref)
	if err != nil {
		return err
	}
	if within(state, folder) || within(folder, state) {
		return api.Errorf(api.Denied, "workspace %q: aegisd's own state is in %s: choose a folder apart from it", shorten(ref), state)
	}
	return nil
}

func within(inner, outer string) bool {
	rel, err := filepath.Rel(outer, inner)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// List tells the named workspaces, by name.
func (k *Keeper) List() ([]api.Workspace, error) {
	dirs, err := os.ReadDir(k.named(""))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing workspaces: %w", err)
	}
	all := []api.Workspace{}
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil || !info.IsDir() || strings.HasPrefix(d.Name(), ".") {
			continue // it went meanwhile, or is none
		}
		w := api.Workspace{Name: d.Name(), Path: k.named(d.Name()), ModifiedAt: info.ModTime().UTC()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			w.OwnerUID = st.Uid
		}
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b api.Workspace) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// Remove deletes a named workspace with all that is in it. A folder that is
// only half gone after a crash has no name any more, and goes at the next
// Sweep.
func (k *Keeper) Remove(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	going := k.named("." + name + "." + time.Now().UTC().Format("20060102T150405.000000000"))
	err := os.Rename(k.named(name), going)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return api.Errorf(api.NotFound, "no workspace %q: see `aegis workspace list`", shorten(name))
	case err != nil:
		return fmt.Errorf("removing workspace %q: %w", name, err)
	}
	if err := os.RemoveAll(going); err != nil {
		return fmt.Errorf("removing workspace %q: %w", name, err)
	}
	return nil
}

// mount is the folder with what the server of a machine must know.
func (k *Keeper) mount(machine string) string { return filepath.Join(k.State, "mounts", machine) }

// Forget forgets what the server of a machine knew. The machine is gone, and
// its server as well.
func (k *Keeper) Forget(machine string) {
	if err := os.RemoveAll(k.mount(machine)); err != nil {
		k.Log.Warn("the state of a workspace's server is left", "machine", machine, "error", err)
	}
}

// Sweep removes what a crash has left: the state of machines that are not
// there, and workspaces that were being removed.
func (k *Keeper) Sweep(_ context.Context, there func(machine string) bool) {
	mounts, _ := os.ReadDir(k.mount(""))
	for _, d := range mounts {
		if !there(d.Name()) {
			k.Forget(d.Name())
		}
	}
	folders, _ := os.ReadDir(k.named(""))
	for _, d := range folders {
		if strings.HasPrefix(d.Name(), ".") {
			if err := os.RemoveAll(k.named(d.Name())); err != nil {
				k.Log.Warn("a removed workspace is left", "folder", d.Name(), "error", err)
			}
		}
	}
}
