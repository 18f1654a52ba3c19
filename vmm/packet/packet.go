// Package packet carries JSON and descriptors over local sockets that keep
// packets apart. It knows nothing of what they mean.
package packet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The most that one packet carries: bytes and descriptors.
const (
	maxPacket = 32 << 10
	maxFiles  = 4
)

// Send writes one packet with descriptors.
func Send(c *net.UnixConn, v any, files ...*os.File) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %T: %w", v, err)
	}
	if len(raw) > maxPacket {
		return fmt.Errorf("packet of %d bytes is over %d", len(raw), maxPacket)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		if fds[i], err = number(f); err != nil {
			return err
		}
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(raw, oob, nil)
	runtime.KeepAlive(files)
	return err
}

// number is a file's descriptor; File.Fd would make it blocking.
func number(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err == nil {
		err = raw.Control(func(n uintptr) { fd = int(n) })
	}
	return fd, err
}

// Receive reads one packet and owns its descriptors: the caller closes them,
// also those of an error.
func Receive(c *net.UnixConn, v any) ([]*os.File, error) {
	files, _, err := ReceiveFrom(c, v)
	return files, err
}

// buffers are for packets that are being read.
var buffers = sync.Pool{New: func() any { return new([maxPacket]byte) }}

// ReceiveFrom is Receive that also tells the sender's process, as the kernel
// knows it; 0 where the socket was not set up for that.
func ReceiveFrom(c *net.UnixConn, v any) ([]*os.File, int, error) {
	pooled := buffers.Get().(*[maxPacket]byte)
	defer buffers.Put(pooled)
	buf := pooled[:]
	oob := make([]byte, unix.CmsgSpace(4*maxFiles)+credentialSpace)
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, 0, err
	}
	files, pid, err := control(oob[:oobn])
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("packet is too long or has too many descriptors")
	case n == 0:
		err = net.ErrClosed // an empty packet is the end of a SEQPACKET stream
	default:
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil {
		CloseAll(files)
		return nil, 0, err
	}
	return files, pid, nil
}

// control reads what came beside a packet.
func control(oob []byte) (files []*os.File, pid int, err error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, 0, err
	}
	for _, m := range messages {
		if sender := credentialPid(&m); sender > 0 {
			pid = sender
			continue
		}
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, pid, nil
}

// CloseAll closes files that nobody wants.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Pair makes two connected sockets: one to use here, and one to give away.
func Pair() (ours *net.UnixConn, theirs *os.File, err error) { return pair(unix.SOCK_SEQPACKET) }

// StreamPair is Pair for sockets that do not keep packets apart.
func StreamPair() (ours *net.UnixConn, theirs *os.File, err error) { return pair(unix.SOCK_STREAM) }

func pair(kind int) (ours *net.UnixConn, theirs *os.File, err error) {
	syscall.ForkLock.RLock() // no child may be born with either
	fds, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetNonblock(fds[1], true) // so that Go programs wait for it without a thread
	theirs = os.NewFile(uintptr(fds[1]), "pair")
	if ours, err = socket(os.NewFile(uintptr(fds[0]), "pair")); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// Conn makes a connection of packets of a descriptor that somebody gave us,
// which it closes.
func Conn(f *os.File) (*net.UnixConn, error) {
	c, err := socket(f)
	if err == nil && c.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, fmt.Errorf("taking a socket: it is of %s, packets expected", c.LocalAddr().Network())
	}
	return c, err
}

// socket makes a connection of a descriptor, which it closes.
func socket(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("taking a socket: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("taking a socket: it is of %s, a local one expected", c.LocalAddr().Network())
	}
	return u, nil
}
