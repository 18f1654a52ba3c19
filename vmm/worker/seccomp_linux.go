package worker

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// refused are the system calls that neither a worker nor a monitor needs, by
// what they are for. They answer EPERM: a Go program dies of a filter that
// kills.
var refused = map[string][]string{
	"mounts": {
		"mount", "umount2", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick",
		"mount_setattr", "pivot_root", "chroot", "swapon", "swapoff", "quotactl", "quotactl_fd",
	},
	"namespaces": {"unshare", "setns"},
	"other processes": {
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "pidfd_getfd", "kcmp",
		"perf_event_open", "migrate_pages", "move_pages",
	},
	"the kernel": {
		"bpf", "userfaultfd", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
		"syslog", "acct", "personality", "modify_ldt", "vhangup", "lookup_dcookie",
	},
	"keys":             {"add_key", "request_key", "keyctl"},
	"handles of files": {"name_to_handle_at", "open_by_handle_at", "fanotify_init", "fanotify_mark"},
	"the host's clock": {"settimeofday", "clock_settime", "adjtimex", "clock_adjtime"},
	"the host's names": {"sethostname", "setdomainname"},
	"ports":            {"ioperm", "iopl"},
	"things long gone": {"_sysctl", "uselib", "ustat", "sysfs", "create_module", "get_kernel_syms", "query_module", "nfsservctl"},
}

// namespaceFlags are what clone is refused with.
const namespaceFlags = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// socketFamilies are those of a worker's and a monitor's sockets: the
// manager's, the guest's.
var socketFamilies = []uint64{unix.AF_UNIX, unix.AF_VSOCK}

// policy allows what is known and not refused. Calls by the numbers of another
// architecture meet the default too.
func policy() (seccomp.Policy, error) {
	here, err := arch.GetInfo("")
	if err != nil {
		return seccomp.Policy{}, err
	}
	numbers := maps.Clone(here.SyscallNumbers)
	drop := func(name string) {
		if n, ok := here.SyscallNames[name]; ok {
			delete(numbers, n)
		}
	}
	for _, names := range refused {
		for _, name := range names {
			drop(name)
		}
	}
	// The filter cannot see the flags of clone3, which are in memory. A C
	// library that is told that there is none uses clone.
	drop("clone3")
	drop("clone")
	drop("socket")
	var allowed []string
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		allowed = append(allowed, numbers[n])
	}
	var sockets []seccomp.NameWithConditions
	for _, family := range socketFamilies {
		sockets = append(sockets, when("socket", seccomp.Equal, family))
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Names: []string{"clone3"}, Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)},
			{Names: allowed, Action: seccomp.ActionAllow},
			// In this order and at the end: once the assembler has looked at
			// an argument, it compares that, not the call's number, with the
			// numbers that follow. No namespace's flags are socket's number.
			{
				NamesWithCondtions: []seccomp.NameWithConditions{when("clone", seccomp.BitsNotSet, namespaceFlags)},
				Action:             seccomp.ActionAllow,
			},
			{NamesWithCondtions: sockets, Action: seccomp.ActionAllow},
		},
	}, nil
}

// when is a call whose first argument fulfils a condition.
func when(name string, op seccomp.Operation, value uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{
		Name: name, Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: op, Value: value}},
	}
}

// program is the filter: what is newer than our list of calls answers ENOSYS,
// for which C libraries know another way, and all else meets the policy, which
// cannot say that by itself: its default has one answer, EPERM.
func program() ([]bpf.Instruction, error) {
	here, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	p, err := policy()
	if err != nil {
		return nil, err
	}
	rest, err := p.Assemble()
	if err != nil {
		return nil, err
	}
	const call, architecture, word = 0, 4, 4 // struct seccomp_data
	newest := slices.Max(slices.Collect(maps.Keys(here.SyscallNumbers)))
	return append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: architecture, Size: word},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(here.ID), SkipTrue: 3},
		bpf.LoadAbsolute{Off: call, Size: word},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: uint32(newest), SkipFalse: 1},
		bpf.RetConstant{Val: uint32(seccomp.ActionErrno) | uint32(unix.ENOSYS)},
	}, rest...), nil
}

// filter puts it on this thread and on all that it starts, for ever.
func filter() error {
	p, err := program()
	if err != nil {
		return fmt.Errorf("making the filter of system calls: %w", err)
	}
	return install(p, 0)
}

// install puts a filter on this thread, or with TSYNC on all.
func install(p []bpf.Instruction, flags uintptr) error {
	raw, err := bpf.Assemble(p)
	if err != nil {
		return fmt.Errorf("assembling the filter of system calls: %w", err)
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno != 0:
		return os.NewSyscallError("seccomp", errno)
	case thread != 0:
		return fmt.Errorf("seccomp: thread %d has another filter", thread)
	}
	return nil
}
