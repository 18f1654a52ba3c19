package worker

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// answers runs the filter as the kernel does and gives its verdict.
func answers(t *testing.T) func(a *arch.Info, call int, first uint64) seccomp.Action {
	t.Helper()
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	const most = 4096 // instructions that the kernel takes
	if len(program) > most {
		t.Fatalf("%d instructions, the kernel takes %d", len(program), most)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return func(a *arch.Info, call int, first uint64) seccomp.Action {
		t.Helper()
		// struct seccomp_data as a little-endian kernel has it, but with each
		// word the way round in which this machine reads it.
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data, uint32(call))
		binary.BigEndian.PutUint32(data[4:], uint32(a.ID))
		binary.BigEndian.PutUint32(data[16:], uint32(first))
		binary.BigEndian.PutUint32(data[20:], uint32(first>>32))
		verdict, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		return seccomp.Action(verdict)
	}
}

const (
	eperm  = seccomp.ActionErrno | seccomp.Action(unix.EPERM)
	enosys = seccomp.ActionErrno | seccomp.Action(unix.ENOSYS)
)

func TestTheFilterRefusesAllThatItNames(t *testing.T) {
	answer := answers(t)
	here, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	for what, names := range refused {
		for _, name := range names {
			n, ok := here.SyscallNames[name]
			if _, other := arch.X86_64.SyscallNames[name]; !ok && !other {
				t.Errorf("%s: no call is named %s", what, name)
			}
			if ok && answer(here, n, 0) != eperm {
				t.Errorf("%s: %s is answered %#x", what, name, answer(here, n, 0))
			}
		}
	}
}

func TestTheFilterLooksAtArguments(t *testing.T) {
	answer := answers(t)
	here, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD | unix.CLONE_SYSVSEM |
		unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
	for _, c := range []struct {
		what, call string
		first      uint64
		want       seccomp.Action
	}{
		{"a thread", "clone", thread, seccomp.ActionAllow},
		{"a child", "clone", unix.CLONE_VFORK | unix.CLONE_VM | uint64(unix.SIGCHLD), seccomp.ActionAllow},
		{"a user namespace", "clone", unix.CLONE_NEWUSER, eperm},
		{"a network namespace", "clone", unix.CLONE_NEWNET | thread, eperm},
		{"flags in memory", "clone3", 0, enosys},
		{"a local socket", "socket", unix.AF_UNIX, seccomp.ActionAllow},
		{"a socket to the guest", "socket", unix.AF_VSOCK, seccomp.ActionAllow},
		{"an internet socket", "socket", unix.AF_INET, eperm},
		{"netlink", "socket", unix.AF_NETLINK, eperm},
		{"packets", "socket", unix.AF_PACKET, eperm},
		{"a family with high bits", "socket", unix.AF_UNIX | 1<<32, eperm},
		{"reading", "read", 0, seccomp.ActionAllow},
		{"KVM", "ioctl", 0, seccomp.ActionAllow},
		{"a filter of its own", "seccomp", 1, seccomp.ActionAllow},
		{"Landlock of its own", "landlock_restrict_self", 0, seccomp.ActionAllow},
		{"starting the monitor", "execve", 0, seccomp.ActionAllow},
	} {
		if got := answer(here, here.SyscallNames[c.call], c.first); got != c.want {
			t.Errorf("%s (%s %#x) is answered %#x, %#x expected", c.what, c.call, c.first, got, c.want)
		}
	}
	newest := slices.Max(slices.Collect(maps.Keys(here.SyscallNumbers)))
	for call, unknown := range map[int]bool{newest: false, newest + 1: true, 9999: true, 1<<32 - 1: true} {
		if got := answer(here, call, 0); (got == enosys) != unknown {
			t.Errorf("call %d is answered %#x", call, got)
		}
	}
}

func TestTheFilterRefusesOtherArchitectures(t *testing.T) {
	answer := answers(t)
	here, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range []*arch.Info{arch.I386, arch.ARM, arch.AARCH64, arch.X86_64} {
		if other.ID == here.ID {
			continue
		}
		for _, name := range []string{"mount", "read"} {
			if got := answer(other, other.SyscallNames[name], 0); got != eperm {
				t.Errorf("%s of %s is answered %#x", name, other.Name, got)
			}
		}
	}
	if here.ID == arch.X32.ID {
		if got := answer(here, arch.X32.SyscallNames["mount"]|arch.X32.SeccompMask, 0); got != enosys {
			t.Errorf("a call of x32 is answered %#x", got)
		}
	}
}
