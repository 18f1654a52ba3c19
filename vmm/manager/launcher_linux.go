package manager

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/vmm/worker"
)

// detached makes a worker that no signal to our group or terminal reaches.
// Without root's rights it becomes root of a user namespace of its own, where
// it may build its jail, if the host allows such namespaces.
func detached(sameUser bool) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if sameUser && os.Geteuid() != 0 && worker.UserNamespaces() {
		attr.Cloneflags = unix.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attr
}

// inNamespace tells whether detached has chosen a user namespace.
func inNamespace(attr *syscall.SysProcAttr) bool { return attr.Cloneflags&unix.CLONE_NEWUSER != 0 }

func dup(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var failed error
	if err := raw.Control(func(n uintptr) { fd, failed = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, os.NewSyscallError("fcntl", failed)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// hostMemoryMiB is the host's memory, 0 if it does not say.
func hostMemoryMiB() int {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 0
	}
	return int(uint64(s.Totalram) * uint64(s.Unit) >> 20)
}
