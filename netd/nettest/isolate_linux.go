// Package nettest makes hosts and guests of network namespaces for tests: a
// test runs again in a namespace of its own, which is the host, with an
// internet, a neighbour and guests that are only frames on the descriptors of
// their taps. Nothing outside of the namespace is touched or reached.
package nettest

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// isolated marks the run in the namespace.
const isolated = "AEGIS_NETTEST"

// Isolated runs the calling test once more, as root of a network namespace
// with nothing but an lo, and tells whether this is that run:
//
//	if !nettest.Isolated(t) {
//		return
//	}
func Isolated(t *testing.T) bool {
	t.Helper()
	if os.Getenv(isolated) == t.Name() {
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("there is no /dev/net/tun: a container without it has no taps")
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=2m"}
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(a, "-test.bench") {
			args = append(args, a)
		}
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), isolated+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the child goes with the thread that has made it
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a network namespace: %v\n%s", err, out)
	} else if strings.Contains(string(out), "--- SKIP") {
		t.Skipf("in a network namespace: %s", out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Space is another network namespace. It goes with the test.
type Space struct {
	t  testing.TB
	fd int
}

// NewSpace makes a namespace with nothing but an lo.
func NewSpace(t testing.TB) *Space {
	t.Helper()
	s := &Space{t: t, fd: -1}
	done := make(chan error)
	go func() { // the thread is not used again: it stays in the namespace
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { unix.Close(s.fd) })
	s.Do(func() {
		lo, err := netlink.LinkByName("lo")
		must(t, err)
		must(t, netlink.LinkSetUp(lo))
	})
	return s
}

// Do runs f on a thread in the namespace. Sockets that it opens stay there.
func (s *Space) Do(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		must(s.t, unix.Setns(s.fd, unix.CLONE_NEWNET))
		f()
	}()
	<-done
}

// AllowPings lets everybody in the caller's namespace ping.
func AllowPings(t testing.TB) {
	t.Helper()
	must(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0))
}

// Open is the namespace that a file such as /proc/PID/ns/net stands for.
func Open(t testing.TB, path string) *Space {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return &Space{t: t, fd: fd}
}

// Path is a file that stands for the namespace as long as the test runs.
func (s *Space) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.fd) }

// World makes the namespace the host of a world, whose port for names is left to
// a resolver.
func (s *Space) World() (w *World) {
	ports := slices.DeleteFunc(slices.Clone(HostPorts), func(port int) bool { return port == DNSPort })
	s.Do(func() { w = newWorld(s.t, ports) })
	return w
}
