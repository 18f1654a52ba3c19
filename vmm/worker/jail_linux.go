package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Imprison is the first stage of a worker that runs as root or as root of its
// own user namespace: it divides the scope, builds the jail around this
// process and starts the same program again inside it, with the same
// descriptors. It returns only with an error.
//
// The jail: network, IPC, UTS and mount namespaces of its own, with a root
// that holds system libraries read-only, the guest's kernel, the monitor, the
// few devices it needs and the machine's run directory; no capability, not
// even to regain; the machine's own user; no_new_privs; Landlock over all of
// it; limits on core dumps, files and processes; a filter of system calls, to
// which the monitors add their own.
func Imprison(p Plan, log *slog.Logger) error {
	// Everything here is a property of the thread that calls exec.
	runtime.LockOSThread()
	j := &jailer{plan: p, strict: p.Jail.Strict, log: log}
	uid, gid := int(p.Jail.UID), int(p.Jail.GID)
	var err error
	if j.plan.Cgroup, err = tryCgroup(p, uid, gid, log); err != nil {
		if err := j.or(err); err != nil {
			return err
		}
	}
	j.plan.Jail = nil
	groups := deviceGroups()
	if err := beKilledFirst(); err != nil {
		log.Warn("the machine has its manager's protection from the OOM killer", "err", err)
	}
	steps := []struct {
		what string
		do   func() error
	}{
		{"making namespaces", j.unshare},
		{"building the jail's file system", j.root},
		{"keeping the guest's kernel at hand", func() error { return j.holdKernel(uid) }},
		{"limiting resources", func() error { return limits(uid != 0 || p.Jail.Namespace) }},
		{"giving the machine's user its disks", func() error { return j.giveDisks(gid) }},
		{"dropping capabilities", dropCapabilities},
		{"becoming the machine's user", func() error { return become(uid, gid, groups) }},
		{"giving up new privileges", func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }},
		{"applying Landlock", func() error { return j.landlock() }},
		{"filtering system calls", filter},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			if err := j.or(fmt.Errorf("%s: %w", s.what, err)); err != nil {
				return err
			}
		}
	}
	return j.again()
}

type jailer struct {
	plan   Plan
	strict bool
	apart  bool // the mounts are ours
	inside bool // the root is ours
	exe    string
	log    *slog.Logger
}

// or is what becomes of a step's error: without root rights it is told and
// the machine starts with less around it.
func (j *jailer) or(err error) error {
	if j.strict {
		return fmt.Errorf("building the jail: %w", err)
	}
	j.log.Warn("the jail lacks a wall", "err", err)
	return nil
}

// unshare makes each namespace by itself: one that is not to be had is no
// reason to go without the others.
func (j *jailer) unshare() (failed error) {
	for _, ns := range []struct {
		name string
		flag int
	}{
		{"mount", unix.CLONE_NEWNS}, {"network", unix.CLONE_NEWNET}, {"IPC", unix.CLONE_NEWIPC}, {"UTS", unix.CLONE_NEWUTS},
	} {
		err := unix.Unshare(ns.flag)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", ns.name, err))
		}
		j.apart = j.apart || err == nil && ns.flag == unix.CLONE_NEWNS
	}
	return failed
}

// Limits of the worker and its monitor. The monitor has a descriptor for each
// disk and stream, a thread for each processor and disk request.
const (
	maxOpenFiles = 8192
	maxProcesses = 1024
)

// limits sets them. The kernel counts the processes of a user, in a user
// namespace those in it: where neither is the machine's own, the limit would
// be that of somebody's whole session.
func limits(own bool) error {
	all := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxOpenFiles}
	if own {
		all[unix.RLIMIT_NPROC] = maxProcesses
	}
	for resource, limit := range all {
		var old unix.Rlimit
		if err := unix.Getrlimit(resource, &old); err != nil {
			return os.NewSyscallError("getrlimit", err)
		}
		limit = min(limit, old.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	return nil
}

// holdKernel opens what a machine's user cannot reach by its path where the
// root is still the host's, and names it by the descriptor.
func (j *jailer) holdKernel(uid int) error {
	if j.inside || uid == 0 {
		return nil
	}
	for _, path := range []*string{&j.plan.Kernel, &j.plan.Initramfs} {
		fd, err := openAbove(*path, unix.O_RDONLY)
		if err != nil {
			return &os.PathError{Op: "open", Path: *path, Err: err}
		}
		*path = heldName + strconv.Itoa(fd)
	}
	return nil
}

// beKilledFirst gives up the protection from the OOM killer that a manager may
// have: a machine goes before a daemon. Raising the value needs no right.
func beKilledFirst() error {
	const file = "/proc/self/oom_score_adj"
	raw, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(raw), "-") {
		return err
	}
	return os.WriteFile(file, []byte("0"), 0)
}

// dropCapabilities empties the bounding and ambient sets, so that not even an
// exec as root brings one back. Those in force go with the user, or with the
// exec.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return os.NewSyscallError("clearing ambient capabilities", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			return nil // behind the kernel's last one
		}
		if err != nil {
			return os.NewSyscallError("dropping a capability", err)
		}
	}
}

// become changes the user of this thread; 0 keeps it.
func become(uid, gid int, groups []int) error {
	if uid == 0 {
		return nil
	}
	raw := make([]uint32, len(groups), len(groups)+1)
	for i, g := range groups {
		raw[i] = uint32(g)
	}
	if err := setgroups(raw); err != nil {
		return err
	}
	u, g := uintptr(uid), uintptr(gid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, g, g, g); errno != 0 {
		return os.NewSyscallError("setresgid", errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, u, u, u); errno != 0 {
		return os.NewSyscallError("setresuid", errno)
	}
	return nil
}

// deviceGroups are the groups that may use the devices of virtualisation.
func deviceGroups() (groups []int) {
	for _, path := range []string{"/dev/kvm", "/dev/vhost-vsock"} {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Gid != 0 && st.Mode&0o060 == 0o060 {
			groups = append(groups, int(st.Gid))
		}
	}
	return groups
}

// giveDisks lets the machine's group read and write its disks. A monitor that
// opens its disks by name, as Cloud Hypervisor does, can do so only by the
// names of its descriptors, and the kernel asks it for the rights to the file
// again. No other machine has a name for the file, and the owner stays who he
// is.
func (j *jailer) giveDisks(gid int) error {
	if gid == 0 {
		return nil // we stay who we are
	}
	for n, d := range j.plan.Disks {
		if d.ReadOnly {
			continue // many machines share it: the store lets everybody read it
		}
		if err := j.giveDisk(diskFD(n), gid); err != nil {
			return fmt.Errorf("disk %q: %w", d.Role, err)
		}
	}
	return nil
}

// giveDisk gives one disk. A manager that may not change the mode of somebody
// else's file leaves that to whoever made it; QEMU does without.
func (j *jailer) giveDisk(fd, gid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := unix.Fchown(fd, -1, gid); err != nil {
		return os.NewSyscallError("fchown", err)
	}
	if st.Mode&0o060 == 0o060 {
		return nil
	}
	err := os.NewSyscallError("fchmod", unix.Fchmod(fd, st.Mode&0o7777|0o060))
	if err != nil && j.plan.Driver == driverOfDescriptors {
		j.log.Warn("a disk can be opened only by its descriptor", "mode", fmt.Sprintf("%04o", st.Mode&0o7777), "err", err)
		return nil
	}
	return err
}

// driverOfDescriptors opens no disk by name.
const driverOfDescriptors = "qemu"

// landlock allows what the jail's root has, and the disks, and nothing else.
// A kernel without it (before 5.13, or built so) leaves the other walls.
func (j *jailer) landlock() error {
	if !j.inside {
		return nil // the root is the host's: there is no list of what is needed
	}
	if v, err := llsys.LandlockGetABIVersion(); err != nil || v == 0 {
		j.log.Info("the jail has no Landlock: this kernel has none")
		return nil
	}
	rules := []landlock.Rule{
		landlock.RODirs("/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix", jailDir, "/proc").IgnoreIfMissing(),
		landlock.ROFiles("/etc/ld.so.cache").IgnoreIfMissing(),
		landlock.RWDirs(jailRun),
		landlock.RWDirs(jailMemory).IgnoreIfMissing(),
		landlock.RWDirs("/dev").WithIoctlDev(),
	}
	for n, d := range j.plan.Disks { // a rule is for the file, not for this name
		name := fmt.Sprintf("/proc/self/fd/%d", diskFD(n))
		if d.ReadOnly {
			rules = append(rules, landlock.ROFiles(name))
		} else {
			rules = append(rules, landlock.RWFiles(name))
		}
	}
	return landlock.V5.BestEffort().RestrictPaths(rules...)
}

// again starts this program inside the jail, with the plan in a file on the
// descriptor where the pipe was.
func (j *jailer) again() error {
	raw, err := json.Marshal(j.plan)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("plan", 0)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	if _, err := unix.Pwrite(fd, raw, 0); err != nil {
		return os.NewSyscallError("pwrite", err)
	}
	if fd != planFD { // dup3 refuses equal ones
		if err := unix.Dup3(fd, planFD, 0); err != nil {
			return os.NewSyscallError("dup3", err)
		}
	}
	for n := range j.plan.files() {
		clearCloseOnExec(planFD + 1 + n)
	}
	exe := j.exe
	if exe == "" {
		exe = "/proc/self/exe"
	}
	err = unix.Exec(exe, os.Args, keepEnv(os.Environ()))
	return fmt.Errorf("starting %s in the jail: %w", exe, err)
}

func clearCloseOnExec(fd int) {
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0) // a number without a file does no harm
}

// keepEnv keeps what Go and the worker read; the host's environment may hold
// secrets.
func keepEnv(env []string) (kept []string) {
	for _, kv := range env {
		if strings.HasPrefix(kv, "AEGIS_LOG=") || strings.HasPrefix(kv, "GO") {
			kept = append(kept, kv)
		}
	}
	return append(kept, "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
}
