package files

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/workspace/door"
)

// maxEntries bounds the answer about one folder.
const maxEntries = 20_000

// Tree tells the entries of a folder: folders first, then by name. Those that
// go meanwhile are left out; names that are no text are shown as far as they
// are.
func (f Folder) Tree(path string) ([]api.FileEntry, error) {
	if err := check(path); err != nil {
		return nil, err
	}
	dir, err := f.open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxEntries + 1)
	switch {
	case len(names) > maxEntries:
		return nil, api.Errorf(api.LimitExceeded, "path %q: more than %d entries", door.Shorten(path), maxEntries)
	case err != nil && len(names) > 0:
		return nil, explain(path, err)
	}
	all := make([]api.FileEntry, 0, len(names))
	for _, name := range names {
		var st unix.Stat_t
		if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT) == nil {
			all = append(all, entry(name, &st))
		}
	}
	slices.SortFunc(all, func(a, b api.FileEntry) int {
		return cmp.Or(foldersFirst(a, b), cmp.Compare(a.Name, b.Name))
	})
	return all, nil
}

func entry(name string, st *unix.Stat_t) api.FileEntry {
	e := api.FileEntry{Name: strings.ToValidUTF8(name, "\ufffd"), IsDir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
	if !e.IsDir {
		e.Size = st.Size
	}
	return e
}

func foldersFirst(a, b api.FileEntry) int {
	switch {
	case a.IsDir == b.IsDir:
		return 0
	case a.IsDir:
		return -1
	}
	return 1
}
