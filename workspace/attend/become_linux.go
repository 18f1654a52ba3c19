package attend

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/landlock-lsm/go-landlock/landlock"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// nogroup is the group of owners whom the host's user database does not know.
const nogroup = 65534

// become makes this process, all threads of it, the owner's: with the groups
// that the host's user database gives them, no capability, not even root's,
// and no way to another.
func (a *attendant) become() error {
	if err := a.settle(); err != nil || !a.Everybody {
		return err
	}
	gid, groups, err := groupsOf(a.Owner)
	if err != nil {
		return err
	}
	// Go makes these calls in every thread.
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("taking the groups of uid %d: %w", a.Owner, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("taking the group of uid %d: %w", a.Owner, err)
	}
	if err := syscall.Setresuid(int(a.Owner), int(a.Owner), int(a.Owner)); err != nil {
		return fmt.Errorf("becoming uid %d: %w", a.Owner, err)
	}
	return dropCapabilities()
}

// settle is what a process of our own begins with, whoever it is.
func (a *attendant) settle() error {
	if !a.Alone {
		return nil
	}
	unix.Umask(0) // modes are chosen where files are made
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turning off core dumps: %w", err)
	}
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("giving up new privileges: %w", errno)
	}
	return nil
}

// dropCapabilities is for root, who keeps them over a change of user to root.
func dropCapabilities() error {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(head)), uintptr(unsafe.Pointer(&none[0])), 0)
	if errno != 0 {
		return fmt.Errorf("dropping capabilities: %w", errno)
	}
	return nil
}

func groupsOf(uid uint32) (gid int, groups []int, err error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if _, unknown := err.(user.UnknownUserIdError); unknown {
		return nogroup, nil, nil
	}
	if err != nil {
		return 0, nil, fmt.Errorf("looking up uid %d: %w", uid, err)
	}
	all, err := u.GroupIds()
	if err != nil {
		return 0, nil, fmt.Errorf("looking up the groups of uid %d: %w", uid, err)
	}
	for _, text := range append(all, u.Gid) {
		if gid, err = strconv.Atoi(text); err != nil { // the last one stays
			return 0, nil, api.Errorf(api.Internal, "group %q of uid %d: expected a number", text, uid)
		}
		groups = append(groups, gid)
	}
	return gid, groups, nil
}

// confine lets the kernel see to it as well that nothing but these folders is
// reached.
func (a *attendant) confine(folders ...*os.File) error {
	if !a.Alone {
		return nil
	}
	paths := make([]string, len(folders))
	for i, f := range folders {
		paths[i] = pathOf(f)
	}
	if err := landlock.V5.BestEffort().RestrictPaths(landlock.RWDirs(paths...).WithRefer()); err != nil {
		return fmt.Errorf("confining the server: %w", err)
	}
	return nil
}
