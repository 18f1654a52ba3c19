package worker

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"github.com/elastic/go-seccomp-bpf"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// jailNamespaces are those of a jail, beside a user namespace.
const jailNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// MayUnshare tells whether this process may make the namespaces and mounts of
// a jail as it is. Root in a container may be refused either; that there are
// too many of them just now is no refusal.
func MayUnshare() bool {
	tried := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with it its
		// namespaces and the mounts in them.
		runtime.LockOSThread()
		tried <- tryWalls()
	}()
	err := <-tried
	return !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES)
}

func tryWalls() error {
	if err := unix.Unshare(jailNamespaces); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("tmpfs", newRoot, "tmpfs", 0, "size=4k")
}

// UserNamespaces tells whether an ordinary user may make one that is worth
// something: some hosts allow the namespace but no right in it.
func UserNamespaces() bool {
	attr := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: attr})
	if err != nil {
		return false
	}
	state, err := p.Wait()
	return err == nil && state.Success()
}

// MissingWalls says which walls a jail lacks on this host: one that this
// process would build, or with privileged one that a service of root builds.
func MissingWalls(privileged bool) (missing []string) {
	root := privileged || os.Geteuid() == 0
	if !root {
		missing = append(missing, "a user of its own")
	}
	apart := privileged || root && MayUnshare() || !root && UserNamespaces()
	if !apart {
		missing = append(missing, "namespaces and a file system of its own")
	}
	if abi, err := llsys.LandlockGetABIVersion(); err != nil || abi == 0 || !apart {
		missing = append(missing, "Landlock")
	}
	if !seccomp.Supported() {
		missing = append(missing, "a filter of system calls")
	}
	return missing
}
