package boot

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mount is one call of mount(2) with its mount point.
type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
	// mode of the mount point if it has to be made.
	mode os.FileMode
	// optional mounts may fail: the kernel may lack them.
	optional bool
}

const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// early is what finding the disks needs.
var early = []mount{
	{source: "proc", target: "/proc", kind: "proc", flags: plain},
	{source: "sysfs", target: "/sys", kind: "sysfs", flags: plain},
	{source: "devtmpfs", target: "/dev", kind: "devtmpfs", flags: unix.MS_NOSUID, data: "mode=0755"},
}

// rest is what programs expect beside that.
var rest = []mount{
	{source: "devpts", target: "/dev/pts", kind: "devpts", flags: unix.MS_NOSUID | unix.MS_NOEXEC, data: "gid=5,mode=620,ptmxmode=666"},
	{source: "shm", target: "/dev/shm", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
	{source: "mqueue", target: "/dev/mqueue", kind: "mqueue", flags: plain, optional: true},
	{source: "tmp", target: "/tmp", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=1777"},
	{source: "run", target: "/run", kind: "tmpfs", flags: unix.MS_NOSUID | unix.MS_NODEV, data: "mode=0755"},
	{source: "cgroup2", target: "/sys/fs/cgroup", kind: "cgroup2", flags: plain, data: "nsdelegate", optional: true},
}

// Early mounts what LoadModules and Root need.
func Early() error { return all(early) }

func all(mounts []mount) error {
	for _, m := range mounts {
		if err := m.mount(); err != nil && !m.optional {
			return err
		}
	}
	return nil
}

func (m mount) mount() error {
	if err := os.MkdirAll(m.target, max(m.mode, 0o755)); err != nil {
		return fmt.Errorf("mounting %s on %s: %w", m.source, m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mounting %s (%s) on %s: %w", m.source, m.kind, m.target, err)
	}
	return nil
}

// links are names that programs expect in /dev.
var links = map[string]string{
	"/dev/fd":     "/proc/self/fd",
	"/dev/stdin":  "/proc/self/fd/0",
	"/dev/stdout": "/proc/self/fd/1",
	"/dev/stderr": "/proc/self/fd/2",
}

// populate mounts the rest and makes the links.
func populate() error {
	if err := all(rest); err != nil {
		return err
	}
	for name, to := range links {
		if err := os.Symlink(to, name); err != nil && !os.IsExist(err) {
			return fmt.Errorf("populating /dev: %w", err)
		}
	}
	return nil
}
