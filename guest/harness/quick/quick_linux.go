package quick

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a file in non-blocking mode that is waited for by events.
type File struct {
	*os.File
	raw syscall.RawConn
}

// New wraps f, which must be pollable.
func New(f *os.File) (*File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("wrapping %s: %w", f.Name(), err)
	}
	return &File{f, raw}, nil
}

// Read is as that of os.File.
func (f *File) Read(b []byte) (int, error) {
	n, err := f.wait(f.raw.Read, func(fd uintptr) (int, syscall.Errno) {
		return call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b))
	})
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// ReadNow reads what there is without waiting: nothing at all is no error.
func (f *File) ReadNow(b []byte) (n int, err error) {
	var errno syscall.Errno
	err = f.raw.Control(func(fd uintptr) {
		n, errno = call(unix.SYS_READ, fd, unsafe.Pointer(unsafe.SliceData(b)), len(b))
	})
	if err != nil || errno == unix.EAGAIN {
		return 0, err
	}
	if errno != 0 {
		return 0, fmt.Errorf("reading %s: %w", f.Name(), errno)
	}
	return n, nil
}

// Write is as that of os.File.
func (f *File) Write(b []byte) (done int, err error) {
	for done < len(b) && err == nil {
		var n int
		n, err = f.wait(f.raw.Write, func(fd uintptr) (int, syscall.Errno) {
			return call(unix.SYS_WRITE, fd, unsafe.Pointer(&b[done]), len(b)-done)
		})
		done += n
	}
	return done, err
}

// wait repeats a call until it does not have to wait.
func (f *File) wait(ready func(func(uintptr) bool) error, do func(uintptr) (int, syscall.Errno)) (n int, err error) {
	var errno syscall.Errno
	err = ready(func(fd uintptr) bool {
		n, errno = do(fd)
		return errno != unix.EAGAIN
	})
	if err == nil && errno != 0 {
		err = &os.PathError{Op: "using", Path: f.Name(), Err: errno}
	}
	return n, err
}

// call makes a system call with a descriptor, a pointer and a count.
func call(trap, fd uintptr, p unsafe.Pointer, n int) (int, syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall(trap, fd, uintptr(p), uintptr(n))
		switch errno {
		case 0:
			return int(r), 0
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// pageSize is a buffer of a virtio-serial port; maxPages is how many one
// ReadPages takes.
const (
	pageSize = 4096
	maxPages = 16
)

// ReadPages is as Read of a virtio-serial port, but that it takes several of
// the port's buffers at once (the kernel fills each part of a vector from one,
// and stops at the first that is not full), and that it waits for a host that
// is not connected, which the kernel calls the end of the file. The host's
// coming is an event as its bytes are.
func (f *File) ReadPages(b []byte) (int, error) {
	var parts [maxPages]unix.Iovec
	count := 0
	for at := 0; at < len(b) && count < maxPages; at += pageSize {
		parts[count].Base = &b[at]
		parts[count].SetLen(min(pageSize, len(b)-at))
		count++
	}
	return f.wait(f.raw.Read, func(fd uintptr) (int, syscall.Errno) {
		n, errno := call(unix.SYS_READV, fd, unsafe.Pointer(&parts), count)
		if n == 0 && errno == 0 && len(b) > 0 {
			errno = unix.EAGAIN
		}
		return n, errno
	})
}
