package run

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// splice copies src to dst with splice(2) until src ends. Where that cannot
// be done it reports false before anything was moved, and the copying is left
// to reading and writing.
//
// One end must be a pipe that blocks, as the caller's descriptors do. It is
// waited for in a thread of its own, without holding the other end, which the
// runtime polls and which may be closed meanwhile.
func splice(dst, src *os.File) (copied int64, done bool, err error) {
	j, ok := joined(dst, src)
	if !ok {
		return 0, false, nil
	}
	for {
		n, err := j.move()
		switch {
		case errors.Is(err, unix.EAGAIN):
			err = j.awaitPipe()
			if err != nil {
				return copied, true, readError{err}
			}
			continue
		case copied == 0 && (errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)):
			return 0, false, nil // not this kind of socket
		case errors.Is(err, unix.EPIPE):
			return copied, true, err
		case err != nil:
			return copied, true, readError{os.NewSyscallError("splice", err)}
		case n == 0:
			return copied, true, nil
		}
		copied += n
	}
}

// joint is a pipe of the caller's and a polled descriptor, in one direction.
type joint struct {
	pipe      int
	pipeReady int16 // the poll event to wait for
	// wait runs a function now and whenever the polled end is ready.
	wait      func(func(uintptr) bool) error
	polledFor int16
	toPipe    bool
}

func joined(dst, src *os.File) (joint, bool) {
	in, errIn := src.SyscallConn()
	out, errOut := dst.SyscallConn()
	switch {
	case errIn != nil || errOut != nil:
		return joint{}, false
	case blockingPipe(out):
		return joint{int(dst.Fd()), unix.POLLOUT, in.Read, unix.POLLIN, true}, true
	case blockingPipe(in):
		return joint{int(src.Fd()), unix.POLLIN, out.Write, unix.POLLOUT, false}, true
	}
	return joint{}, false
}

// move moves some bytes. EAGAIN means that the pipe is not ready.
func (j joint) move() (n int64, err error) {
	waited := j.wait(func(fd uintptr) bool {
		n, err = j.try(int(fd))
		return !errors.Is(err, unix.EAGAIN) || poll(int(fd), j.polledFor, 0) == nil
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

func (j joint) try(fd int) (int64, error) {
	const atOnce = 1 << 20
	in, out := j.pipe, fd
	if j.toPipe {
		in, out = fd, j.pipe
	}
	for {
		n, err := unix.Splice(in, nil, out, nil, atOnce, unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (j joint) awaitPipe() error { return poll(j.pipe, j.pipeReady, -1) }

// poll waits for an event of fd; it is EAGAIN where there was none in time.
func poll(fd int, event int16, milliseconds int) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, milliseconds)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 0:
			return unix.EAGAIN
		default:
			return nil
		}
	}
}

func blockingPipe(raw syscall.RawConn) (yes bool) {
	raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			return
		}
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		yes = err == nil && flags&unix.O_NONBLOCK == 0
	})
	return yes
}
