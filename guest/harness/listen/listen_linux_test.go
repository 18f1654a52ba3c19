package listen

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// group is the root of this host's groups, where there are any.
func group(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir
		}
	}
	dir := t.TempDir()
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		t.Skip("no cgroup2 here: ", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// watch skips the test where the kernel does not let us.
func watch(t *testing.T, e *Events, port uint16) (<-chan struct{}, func()) {
	t.Helper()
	woken, stop, err := e.Watch(port)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENOSYS) {
		t.Skip("no programs of the kernel here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return woken, stop
}

// bound is a socket that has a port and does not listen yet.
func bound(t *testing.T, family int) (fd int, port uint16) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var at unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if family == unix.AF_INET6 {
		at = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	if err := unix.Bind(fd, at); err != nil {
		t.Skip(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		return fd, uint16(a.Port)
	case *unix.SockaddrInet6:
		return fd, uint16(a.Port)
	}
	t.Fatalf("bound to %v", name)
	return 0, 0
}

func TestAListenIsToldToWhoWaitsForItsPort(t *testing.T) {
	e := New(group(t))
	defer e.Close()
	for range 2 { // attached, let go, and attached again
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			fd, port := bound(t, family)
			woken, stop := watch(t, e, port)
			other, stopOther := watch(t, e, 1)
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
			select {
			case <-woken:
			case <-time.After(10 * time.Second):
				t.Errorf("a listen on port %d of family %d is not told", port, family)
			}
			select {
			case <-other:
				t.Error("one of another port was told")
			default:
			}
			stop()
			stopOther()
		}
	}
	if e.attached != nil {
		t.Error("the program is attached though nobody waits")
	}
}

// An event comes after the kernel takes connections: who connects then is not
// refused.
func TestWhoIsToldCanConnect(t *testing.T) {
	e := New(group(t))
	defer e.Close()
	for range 50 {
		fd, port := bound(t, unix.AF_INET)
		woken, stop := watch(t, e, port)
		go unix.Listen(fd, 1)
		<-woken
		stop()
		c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestAKernelThatCannotSaysSoEachTime(t *testing.T) {
	e := New(filepath.Join(t.TempDir(), "nosuch"))
	defer e.Close()
	_, _, first := e.Watch(80)
	_, _, second := e.Watch(80)
	if first == nil || first != second {
		t.Errorf("%v, then %v", first, second)
	}
	if errors.Is(first, syscall.ENOENT) && !strings.Contains(first.Error(), "nosuch") {
		t.Errorf("%v does not name the group", first)
	}
	if _, err := os.Stat(e.group); err == nil {
		t.Error("the group was made")
	}
}
