package quick

import (
	"io"
	"syscall"
	"unsafe"
)

// Call makes a system call on a descriptor that does not block, with an
// address and a length, and again where a signal came between.
func Call(trap, fd uintptr, address unsafe.Pointer, length int) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(address), uintptr(length))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// Read reads what is there, waiting for the first byte; io.EOF is the end.
func Read(c syscall.RawConn, b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	var failed error
	err = c.Read(func(fd uintptr) bool {
		n, failed = Call(syscall.SYS_READ, fd, unsafe.Pointer(&b[0]), len(b))
		return failed != syscall.EAGAIN
	})
	switch {
	case err != nil:
	case failed != nil:
		err = failed
	case n == 0:
		err = io.EOF
	}
	return n, err
}

// Write writes all of b. The scheduler knows of it: the kernel's buffers for what
// is written may have to be waited for when memory is short, and others must go
// on meanwhile, as what they carry may free it.
func Write(c syscall.RawConn, b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	var failed error
	err = c.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, err := syscall.Write(int(fd), b[n:])
			if err == syscall.EINTR {
				continue
			}
			if failed = err; err != nil {
				return err != syscall.EAGAIN
			}
			n += m
		}
		return true
	})
	if err == nil {
		err = failed
	}
	return n, err
}
