package testbed

import (
	"net"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Listen listens on the host's own loopback.
func (h *Host) Listen(t testing.TB) net.Listener {
	t.Helper()
	var l net.Listener
	err := h.InNetwork(func() (err error) {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// InNetwork does something in the host's network. Sockets that it makes on
// the way, in its own goroutine, are there for good.
func (h *Host) InNetwork(do func() error) error {
	done := make(chan error, 1)
	go func() { // ends with its thread, which is in the other network for good
		runtime.LockOSThread()
		err := h.enterNetwork()
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// enterNetwork moves the calling thread into the host's network.
func (h *Host) enterNetwork() error {
	if h.NetNS == "" {
		return nil
	}
	f, err := os.Open(h.NetNS)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
}
