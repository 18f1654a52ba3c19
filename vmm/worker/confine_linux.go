package worker

import (
	"fmt"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// confined are the system calls that a worker needs no more when its monitor
// runs. They are what could make another connection of one that it is given:
// a socket of another network stays one of that network.
var confined = []string{
	"socket", "connect", "bind", "listen", "sendmmsg", "io_uring_setup", "io_uring_enter", "io_uring_register", "execve", "execveat",
}

// Confine takes them from all threads of this process, for ever; what it has
// started keeps its own. Data go to where a socket is connected only.
func Confine() error {
	if !seccomp.Supported() {
		return nil // the jail has no filter either, which doctor tells
	}
	p, err := confinement()
	if err != nil {
		return fmt.Errorf("making the worker's filter of system calls: %w", err)
	}
	return install(p, unix.SECCOMP_FILTER_FLAG_TSYNC)
}

// confinement is the filter. It stands behind the jail's, which refuses calls
// by the numbers of other architectures.
func confinement() ([]bpf.Instruction, error) {
	here, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	const call, argument = 0, 16 // struct seccomp_data
	no := bpf.RetConstant{Val: uint32(seccomp.ActionErrno) | uint32(unix.EPERM)}
	p := []bpf.Instruction{bpf.LoadAbsolute{Off: call, Size: 4}}
	number := func(name string) uint32 { return uint32(here.SyscallNames[name]) }
	for _, name := range confined {
		if _, known := here.SyscallNames[name]; known {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(name), SkipFalse: 1}, no)
		}
	}
	// sendto has an address in its fifth argument, or nil.
	p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number("sendto"), SkipFalse: 6},
		bpf.LoadAbsolute{Off: argument + 4*8, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, no,
		bpf.LoadAbsolute{Off: argument + 4*8 + 4, Size: 4}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, no,
		bpf.LoadAbsolute{Off: call, Size: 4})
	// sendmsg connects with a flag only; sockets of datagrams it could send
	// elsewhere a worker is never given.
	p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: number("sendmsg"), SkipFalse: 3},
		bpf.LoadAbsolute{Off: argument + 2*8, Size: 4}, bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: unix.MSG_FASTOPEN, SkipFalse: 1}, no)
	return append(p, bpf.RetConstant{Val: uint32(seccomp.ActionAllow)}), nil
}
