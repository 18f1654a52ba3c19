package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm"
)

// The operations of a worker's socket, one per connection.
const (
	opInfo     = "info"
	opConnect  = "connect"  // Port in, one descriptor out
	opPause    = "pause"    //
	opResume   = "resume"   //
	opSnapshot = "snapshot" // two descriptors in: state, memory
	opStop     = "stop"     // answers when the monitor is gone
	opShutdown = "shutdown" // answers at once; the guest is asked to leave
	opWatch    = "watch"    // one Report per change, until the worker goes
)

// request is one packet from a manager.
type request struct {
	Op   string `json:"op"`
	Port uint32 `json:"port,omitempty"`
}

// response is one packet from a worker.
type response struct {
	Error *api.Error `json:"error,omitempty"`
	Info  *Report    `json:"info,omitempty"`
}

// Report is what a worker tells of its machine.
type Report struct {
	// Seq grows with each change.
	Seq       uint64    `json:"seq"`
	State     vmm.State `json:"state"`
	Accel     string    `json:"accel,omitempty"`
	Pid       int       `json:"pid,omitempty"`
	WorkerPid int       `json:"worker_pid"`
	Exit      *vmm.Exit `json:"exit,omitempty"`
}

const (
	maxPacket = 32 << 10
	maxFiles  = 4
)

// send writes one packet with descriptors.
func send(c *net.UnixConn, v any, files ...*os.File) error {
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

// receive reads one packet and owns its descriptors: the caller closes them,
// also those of an error.
func receive(c *net.UnixConn, v any) ([]*os.File, error) {
	files, _, err := receiveFrom(c, v)
	return files, err
}

// receiveFrom is receive that also tells the sender's process, as the kernel
// knows it; 0 where the socket was not set up for that.
func receiveFrom(c *net.UnixConn, v any) ([]*os.File, int, error) {
	buf := make([]byte, maxPacket)
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
		closeFiles(files)
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

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
