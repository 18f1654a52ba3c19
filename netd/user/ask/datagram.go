package ask

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// datagrams are for datagrams that are being carried; while none is, a flow
// has none.
var datagrams = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Receive waits for one datagram. An empty one is none: of a local socket it is
// the end, which is told.
func Receive(from syscall.RawConn, local bool, take func([]byte) error) (failed error) {
	err := from.Read(func(fd uintptr) bool {
		b := datagrams.Get().(*[64 << 10]byte)
		defer datagrams.Put(b)
		n, err := unix.Read(int(fd), b[:])
		for errors.Is(err, unix.EINTR) {
			n, err = unix.Read(int(fd), b[:])
		}
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false
		case errors.Is(err, unix.ECONNREFUSED) && !local:
			// What we sent before came to nobody: the next may.
		case err != nil:
			failed = err
		case n > 0:
			failed = take(b[:n])
		case local:
			failed = io.EOF
		}
		return true
	})
	return errors.Join(err, failed)
}

// Send sends a datagram if there is room for it: whoever does not read loses
// some, as on any network.
func Send(to syscall.RawConn, b []byte) (failed error) {
	err := to.Control(func(fd uintptr) {
		err := unix.Send(int(fd), b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EMSGSIZE),
			errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EPERM), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		default:
			failed = err
		}
	})
	return errors.Join(err, failed)
}
