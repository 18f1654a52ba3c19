package channel

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/harness/quick"
)

// port is an open virtio-serial port. To the kernel a host that is not
// connected is an end of the file; to us it is one to wait for.
type port struct {
	file *os.File
	raw  syscall.RawConn
}

func openPort(device string) (*port, error) {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the control port: %w", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening the control port: %w", err)
	}
	return &port{file: f, raw: raw}, nil
}

// Read waits for bytes, for the host if need be: its coming is an event on
// the port as its bytes are.
func (p *port) Read(b []byte) (int, error) {
	var n int
	var errno error
	err := p.raw.Read(func(fd uintptr) bool {
		n, errno = readPages(fd, b)
		return n > 0 || errno != nil && errno != syscall.EAGAIN
	})
	if err == nil {
		err = errno
	}
	if err != nil {
		return max(n, 0), fmt.Errorf("reading the control port: %w", err)
	}
	return n, nil
}

// pages is how many of the port's buffers one read takes. The kernel fills
// each part of the vector from one buffer, and stops at the first that is not
// full.
const pages = 16

const pageSize = 4096

// readPages reads what is there, as far as it comes in whole buffers.
func readPages(fd uintptr, b []byte) (n int, err error) {
	var vec [pages]unix.Iovec
	v := 0
	for ; len(b) > 0 && v < pages; v++ {
		part := b[:min(len(b), pageSize)]
		vec[v].Base = &part[0]
		vec[v].SetLen(len(part))
		b = b[len(part):]
	}
	return quick.Call(unix.SYS_READV, fd, unsafe.Pointer(&vec[0]), v)
}

// Write writes all of b; the kernel takes 32 KiB at a time.
func (p *port) Write(b []byte) (int, error) { return quick.Write(p.raw, b) }

// Close closes the port and wakes its reader.
func (p *port) Close() error { return p.file.Close() }
