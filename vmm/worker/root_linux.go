package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Places in the jail.
const (
	jailDir    = "/aegis"  // the worker, the monitor and the guest's kernel
	jailRun    = "/run"    // the machine's run directory
	jailMemory = "/memory" // the guest's memory, for a monitor that knows it by name
)

// newRoot is where the jail's root is built before it takes the place of /:
// any directory would do, as only our mount namespace sees it.
const newRoot = "/tmp"

// mounted is one thing of the host that is seen in the jail.
type mounted struct {
	from, to string
	// attributes are those of mount_setattr.
	attributes uint64
	optional   bool
	fd         int
}

const (
	readOnly  = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	dataOnly  = readOnly | unix.MOUNT_ATTR_NOEXEC
	writable  = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	deviceSet = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC
)

// root gives this thread a root of its own and rewrites the plan's paths to
// those in it, once it is there: where it cannot be built, the worker goes on
// in the host's.
func (j *jailer) root() error {
	if !j.apart {
		return errors.New("its mounts would be the host's")
	}
	list, links, inside, err := j.contents()
	if err != nil {
		return err
	}
	for i := range list {
		m := &list[i]
		// A descriptor each, because newRoot may hide the path.
		if m.fd, err = unix.Open(m.from, unix.O_PATH|unix.O_CLOEXEC, 0); err != nil && !m.optional {
			return fmt.Errorf("opening %s: %w", m.from, err)
		}
		if err != nil {
			m.fd = -1
		}
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", newRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755,size=256k,nr_inodes=256"); err != nil {
		return fmt.Errorf("mounting the root: %w", err)
	}
	for _, m := range list {
		if m.fd >= 0 {
			if err := m.bind(); err != nil {
				return err
			}
		}
	}
	for to, from := range links {
		if err := os.Symlink(from, filepath.Join(newRoot, to)); err != nil {
			return fmt.Errorf("linking %s: %w", to, err)
		}
	}
	if err := mountProc(); err != nil {
		return err
	}
	if j.plan.Driver != driverOfDescriptors {
		if err := mountMemory(j.plan.MemoryMiB); err != nil {
			return err
		}
		inside.MemoryDir = jailMemory
	}
	return j.pivot(inside)
}

// contents lists the jail and gives the plan with the paths in it. /bin and
// the like are links on merged systems and directories on others.
func (j *jailer) contents() (list []mounted, links map[string]string, inside Plan, err error) {
	inside = j.plan
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, nil, inside, err
	}
	list = []mounted{
		{from: "/usr", to: "/usr", attributes: readOnly},
		{from: "/nix", to: "/nix", attributes: readOnly, optional: true},
		{from: "/etc/ld.so.cache", to: "/etc/ld.so.cache", attributes: dataOnly, optional: true},
		{from: j.plan.RunDir, to: jailRun, attributes: writable},
		{from: exe, to: jailDir + "/aegis-vmm-worker", attributes: readOnly},
		{from: j.plan.Kernel, to: jailDir + "/kernel", attributes: dataOnly},
		{from: j.plan.Initramfs, to: jailDir + "/initramfs", attributes: dataOnly},
	}
	inside.RunDir, inside.Kernel, inside.Initramfs = jailRun, jailDir+"/kernel", jailDir+"/initramfs"
	if b := j.plan.Binary; b != "" && !strings.HasPrefix(b, "/usr/") {
		list = append(list, mounted{from: b, to: jailDir + "/" + filepath.Base(b), attributes: readOnly})
		inside.Binary = jailDir + "/" + filepath.Base(b)
	}
	for _, d := range []string{"null", "zero", "full", "random", "urandom", "kvm", "vhost-vsock"} {
		list = append(list, mounted{from: "/dev/" + d, to: "/dev/" + d, attributes: deviceSet, optional: true})
	}
	links = make(map[string]string)
	for _, d := range []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64"} {
		if target, err := os.Readlink(d); err == nil {
			links[d] = target
		} else {
			list = append(list, mounted{from: d, to: d, attributes: readOnly, optional: true})
		}
	}
	return list, links, inside, nil
}

// bind mounts m below newRoot and restricts it with all that is mounted in
// it.
func (m mounted) bind() error {
	to := newRoot + m.to
	if err := m.place(to); err != nil {
		return fmt.Errorf("making room for %s: %w", m.to, err)
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(m.fd), to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", m.from, err)
	}
	unix.Close(m.fd)
	attr := unix.MountAttr{Attr_set: m.attributes}
	err := unix.MountSetattr(unix.AT_FDCWD, to, unix.AT_RECURSIVE, &attr)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12: only the topmost mount
		err = unix.Mount("", to, "", unix.MS_REMOUNT|unix.MS_BIND|oldFlags(m.attributes), "")
	}
	if err != nil {
		return fmt.Errorf("restricting %s: %w", m.to, err)
	}
	return nil
}

func oldFlags(attributes uint64) (flags uintptr) {
	for attribute, flag := range map[uint64]uintptr{
		unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID,
		unix.MOUNT_ATTR_NODEV: unix.MS_NODEV, unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC,
	} {
		if attributes&attribute != 0 {
			flags |= flag
		}
	}
	return flags
}

// place makes the directory or the empty file that m is mounted on.
func (m mounted) place(to string) error {
	var st unix.Stat_t
	if err := unix.Fstat(m.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return os.MkdirAll(to, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	return f.Close()
}

// mountProc mounts a /proc that shows only our own processes. In a user
// namespace without a PID namespace the kernel refuses; then it is the
// host's.
func mountProc() error {
	to := newRoot + "/proc"
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("making room for /proc: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if unix.Mount("proc", to, "proc", flags, "hidepid=ptraceable,subset=pid") == nil {
		return nil
	}
	if unix.Mount("proc", to, "proc", flags, "") == nil { // before Linux 5.8
		return nil
	}
	if err := unix.Mount("/proc", to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	return nil
}

// mountMemory mounts a file system with room for the guest's memory. It goes
// with the jail, however that ends.
func mountMemory(mib int) error {
	to := newRoot + jailMemory
	if err := os.Mkdir(to, 0o755); err != nil {
		return fmt.Errorf("making room for %s: %w", jailMemory, err)
	}
	options := fmt.Sprintf("mode=1777,size=%dm,nr_inodes=16", mib+1)
	if err := unix.Mount("tmpfs", to, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("mounting %s: %w", jailMemory, err)
	}
	return nil
}

// pivot makes newRoot the root and forgets the old one.
func (j *jailer) pivot(inside Plan) error {
	if err := unix.Chdir(newRoot); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	j.plan, j.exe, j.inside = inside, jailDir+"/aegis-vmm-worker", true
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("forgetting the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return os.NewSyscallError("chdir", err)
	}
	err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	return nil
}

func setgroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return os.NewSyscallError("setgroups", errno)
	}
	return nil
}
