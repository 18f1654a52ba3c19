package testbed

import (
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen listens on the host's own loopback.
func (h *Host) Listen(t testing.TB) net.Listener {
	t.Helper()
	type listening struct {
		net.Listener
		err error
	}
	made := make(chan listening, 1)
	go func() { // ends with its thread, which is in the other network for good
		runtime.LockOSThread()
		if err := h.enterNetwork(); err != nil {
			made <- listening{err: err}
			return
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		made <- listening{l, err}
	}()
	l := <-made
	if l.err != nil {
		t.Fatal(l.err)
	}
	t.Cleanup(func() { l.Listener.Close() })
	return l.Listener
}

// enterNetwork moves the calling thread into the network of a booted tree.
func (h *Host) enterNetwork() error {
	leader, _, booted := strings.Cut(h.Socket, "/root/")
	if h.Name != "system" || !booted {
		return nil
	}
	f, err := os.Open(leader + "/ns/net")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
