package worker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/vmm"
)

const cgroupRoot = "/sys/fs/cgroup"

// The monitor's limits beside its guest's memory.
const (
	// overheadMiB is for the monitor itself and, in software emulation, the
	// translated code; an eighth of the guest's memory comes on top for page
	// tables and device buffers.
	overheadMiB = 320
	// workerMiB is for the worker, which holds some buffers per stream.
	workerMiB = 512
	maxTasks  = 512
)

// errNoScope says why there are no limits.
var errNoScope = errors.New("this process is not in a delegated cgroup v2 scope of its own")

// scopeDir is the directory of this process's own scope, if it has one.
func scopeDir(id string) (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", errNoScope
	}
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("finding our cgroup: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if ok && filepath.Base(path) == "aegis-vm-"+id+".scope" {
			return filepath.Join(cgroupRoot, path), nil
		}
	}
	return "", errNoScope
}

// divideScope makes the two leaves of our scope, moves this process to the
// one and sets the limits of the other. uid will start the monitor there, so
// it gets the right to move processes, and only that.
func divideScope(p Plan, uid, gid int) (*Cgroup, error) {
	scope, err := scopeDir(p.ID)
	if err != nil {
		return nil, err
	}
	worker, vm := filepath.Join(scope, "worker"), filepath.Join(scope, "vm")
	for _, dir := range []string{worker, vm} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("making a leaf cgroup: %w", err)
		}
	}
	limit := int64(p.MemoryMiB+p.MemoryMiB/8+overheadMiB) << 20
	steps := []struct{ file, value string }{
		{worker + "/cgroup.procs", strconv.Itoa(os.Getpid())},
		{scope + "/cgroup.subtree_control", "+cpu +memory +pids"},
		{worker + "/memory.max", strconv.FormatInt(workerLimit(p), 10)},
		{worker + "/pids.max", strconv.Itoa(maxTasks)},
		{vm + "/memory.max", strconv.FormatInt(limit, 10)},
		{vm + "/memory.oom.group", "1"},
		{vm + "/pids.max", strconv.Itoa(maxTasks)},
		// One processor more than the guest has, for the monitor's own work.
		{vm + "/cpu.max", fmt.Sprintf("%d 100000", (p.VCPUs+1)*100000)},
	}
	for _, s := range steps {
		if err := os.WriteFile(s.file, []byte(s.value), 0); err != nil {
			return nil, fmt.Errorf("limiting the machine: %w", err)
		}
	}
	for _, dir := range []string{scope, worker, vm} {
		if err := os.Chown(dir+"/cgroup.procs", uid, gid); err != nil {
			return nil, fmt.Errorf("delegating the cgroup: %w", err)
		}
	}
	return openLeaf(vm, limit)
}

// workerLimit is the memory of the worker's leaf. A restore fills the guest's
// memory before there is a monitor, so that it counts as the worker's.
func workerLimit(p Plan) int64 {
	limit := int64(workerMiB) << 20
	if p.Restore {
		limit += int64(p.MemoryMiB) << 20
	}
	return limit
}

// openLeaf opens what the second stage needs, which cannot see the cgroups;
// the descriptors stay open over exec.
func openLeaf(vm string, limit int64) (*Cgroup, error) {
	procs, err := openAbove(vm+"/cgroup.procs", unix.O_WRONLY)
	if err != nil {
		return nil, fmt.Errorf("opening %s/cgroup.procs: %w", vm, err)
	}
	events, err := openAbove(vm+"/memory.events", unix.O_RDONLY)
	if err != nil {
		unix.Close(procs)
		return nil, fmt.Errorf("opening %s/memory.events: %w", vm, err)
	}
	return &Cgroup{Procs: procs, Events: events, Limit: limit}, nil
}

// openAbove opens a file on a number above all that the second stage is born
// with: the plan and the files of the machine have the first ones.
func openAbove(path string, flags int) (int, error) {
	const above = 64
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD, above)
}

// Place is for a driver to call with the process of its monitor: it moves it
// to the vm leaf, where there is one. A monitor that was born there would need
// clone3, which the filter refuses; the little memory that it has by then
// stays with the worker's.
func (p Plan) Place() func(pid int) error {
	if p.Cgroup == nil {
		return nil
	}
	procs := p.Cgroup.Procs
	return func(pid int) error {
		if _, err := unix.Write(procs, []byte(strconv.Itoa(pid))); err != nil {
			return fmt.Errorf("limiting the monitor: %w", err)
		}
		return nil
	}
}

// withOOM adds to the detail of a monitor's death that the kernel killed it
// for its memory.
func withOOM(c *Cgroup, e vmm.Exit) string {
	if c == nil || e.Reason != vmm.ReasonCrashed {
		return e.Detail
	}
	buf := make([]byte, 4096)
	n, err := unix.Pread(c.Events, buf, 0)
	if err != nil {
		return e.Detail
	}
	if kills := oomKills(buf[:n]); kills > 0 {
		return fmt.Sprintf("out of memory: the kernel killed the monitor at its limit of %d MiB (%s)", c.Limit>>20, e.Detail)
	}
	return e.Detail
}

// oomKills reads oom_kill from a memory.events file.
func oomKills(events []byte) int {
	for line := range bytes.Lines(events) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
		if name == "oom_kill" {
			n, _ := strconv.Atoi(value)
			return n
		}
	}
	return 0
}

// tryCgroup divides the scope where there is one and says so where not.
func tryCgroup(p Plan, uid, gid int, log *slog.Logger) (*Cgroup, error) {
	c, err := divideScope(p, uid, gid)
	if errors.Is(err, errNoScope) {
		log.Info("the machine runs without limits of its own", "reason", err)
		return nil, nil
	}
	return c, err
}
