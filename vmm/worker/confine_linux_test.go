package worker

import (
	"encoding/binary"
	"net"
	"runtime"
	"testing"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestAConfinedWorkerMakesNoConnectionOfAnother(t *testing.T) {
	p, err := confinement()
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(p)
	if err != nil {
		t.Fatal(err)
	}
	here, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	type arguments [6]uint64
	for _, c := range []struct {
		call string
		args arguments
		want seccomp.Action
	}{
		{"socket", arguments{unix.AF_UNIX}, eperm},
		{"connect", arguments{3}, eperm},
		{"bind", arguments{3}, eperm},
		{"listen", arguments{3}, eperm},
		{"io_uring_setup", arguments{}, eperm},
		{"io_uring_enter", arguments{}, eperm},
		{"sendmmsg", arguments{}, eperm},
		{"execve", arguments{}, eperm},
		{"sendto", arguments{3, 1, 1, 0, 0, 0}, seccomp.ActionAllow},
		{"sendto", arguments{3, 1, 1, 0, 0x7fff0000, 16}, eperm},
		{"sendto", arguments{3, 1, 1, 0, 1 << 40, 16}, eperm},
		{"sendmsg", arguments{3, 1, 0}, seccomp.ActionAllow},
		{"sendmsg", arguments{3, 1, unix.MSG_FASTOPEN}, eperm},
		{"sendmsg", arguments{3, 1, unix.MSG_FASTOPEN | unix.MSG_DONTWAIT}, eperm},
		{"read", arguments{3}, seccomp.ActionAllow},
		{"socketpair", arguments{unix.AF_UNIX}, seccomp.ActionAllow},
		{"accept4", arguments{3}, seccomp.ActionAllow},
		{"shutdown", arguments{3}, seccomp.ActionAllow},
		{"clone", arguments{unix.CLONE_VM}, seccomp.ActionAllow},
	} {
		data := make([]byte, 64)
		binary.BigEndian.PutUint32(data, uint32(here.SyscallNames[c.call]))
		binary.BigEndian.PutUint32(data[4:], uint32(here.ID))
		for i, a := range c.args {
			binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
			binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
		}
		verdict, err := vm.Run(data)
		if err != nil {
			t.Fatal(err)
		}
		if got := seccomp.Action(verdict); got != c.want {
			t.Errorf("%s%v is answered %#x, %#x expected", c.call, c.args, got, c.want)
		}
	}
}

// TestAConnectionStaysWhatItIs tries on a thread of its own what a kernel
// would otherwise do.
func TestAConnectionStaysWhatItIs(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	p, err := confinement()
	if err != nil {
		t.Fatal(err)
	}
	type result struct{ disconnect, send, filter error }
	said := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the filter goes with the thread
		var r result
		if r.filter = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); r.filter == nil {
			r.filter = install(p, 0)
		}
		nowhere := unix.RawSockaddr{Family: unix.AF_UNSPEC}
		if _, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unsafe.Sizeof(nowhere)); errno != 0 {
			r.disconnect = errno
		}
		r.send = unix.Send(fd, []byte("still there"), 0)
		said <- r
	}()
	if r := <-said; r.filter != nil || r.disconnect != unix.EPERM || r.send != nil {
		t.Errorf("filtered: %v; to disconnect: %v; to send: %v", r.filter, r.disconnect, r.send)
	}
}
