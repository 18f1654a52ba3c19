package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// account is who a process runs as.
type account struct {
	uid, gid uint32
	groups   []uint32
	name     string
	home     string
}

// lookup resolves NAME, UID, NAME:GROUP or UID:GID in the passwd and group
// files below root. A number needs no entry; it then has group 0, no other
// groups and the home /.
func lookup(root, user string) (account, error) {
	who, group, named := strings.Cut(user, ":")
	if user == "" {
		who = superuser
	}
	if who == "" {
		return account{}, fmt.Errorf("user %q: no name before the colon, NAME[:GROUP] or UID[:GID] expected", user)
	}
	a, err := passwd(root, who)
	if err != nil {
		return account{}, err
	}
	if !named {
		a.groups, err = memberships(root, a)
		return a, err
	}
	a.gid, err = groupID(root, group)
	a.groups = nil
	return a, err
}

// superuser is number 0 also where no file says so.
const superuser = "root"

// passwd finds a user by name, else by number.
func passwd(root, who string) (account, error) {
	uid, number := id(who)
	found := account{uid: uid, home: "/"}
	ok := false
	err := lines(root, "etc/passwd", 7, func(f []string) {
		u, uok := id(f[2])
		g, gok := id(f[3])
		if ok || !uok || !gok || (f[0] != who && (!number || u != uid)) {
			return
		}
		found, ok = account{uid: u, gid: g, name: f[0], home: f[5]}, true
	})
	if err != nil {
		return account{}, err
	}
	if !ok && !number && who != superuser {
		return account{}, fmt.Errorf("user %q is not in the guest's /etc/passwd; give its number instead", who)
	}
	if found.home == "" {
		found.home = "/"
	}
	return found, nil
}

func groupID(root, group string) (uint32, error) {
	gid, number := id(group)
	if number {
		return gid, nil
	}
	ok := false
	err := lines(root, "etc/group", 4, func(f []string) {
		if g, valid := id(f[2]); valid && !ok && f[0] == group {
			gid, ok = g, true
		}
	})
	if err == nil && !ok {
		err = fmt.Errorf("group %q is not in the guest's /etc/group; give its number instead", group)
	}
	return gid, err
}

// memberships are the groups that list the user, its own first.
func memberships(root string, a account) ([]uint32, error) {
	groups := []uint32{a.gid}
	if a.name == "" {
		return groups, nil
	}
	err := lines(root, "etc/group", 4, func(f []string) {
		g, ok := id(f[2])
		if ok && !slices.Contains(groups, g) && slices.Contains(strings.Split(f[3], ","), a.name) {
			groups = append(groups, g)
		}
	})
	return groups, err
}

// id reads a user or group number. The largest means "no change" to the
// kernel and is none.
func id(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 1<<32-1
}

// lines calls f with the fields of each line that has so many. A file that is
// not there has no lines.
func lines(root, name string, fields int, f func([]string)) error {
	file, err := os.Open(filepath.Join(root, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking up a user: %w", err)
	}
	defer file.Close()
	in := bufio.NewScanner(file)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		if parts := strings.Split(in.Text(), ":"); len(parts) == fields {
			f(parts)
		}
	}
	return in.Err()
}
