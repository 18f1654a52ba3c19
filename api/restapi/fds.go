package restapi

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// sendStreams sends the descriptors that are there and a byte that tells
// which.
func sendStreams(conn *net.UnixConn, streams *api.Streams) error {
	var mask byte
	var fds []int
	for i, f := range slots(streams) {
		if *f != nil {
			mask |= 1 << i
			fds = append(fds, int((*f).Fd()))
		}
	}
	if _, _, err := conn.WriteMsgUnix([]byte{mask}, unix.UnixRights(fds...), nil); err != nil {
		return fmt.Errorf("sending descriptors: %w", err)
	}
	return nil
}

var errIncomplete = errors.New("receiving descriptors: the daemon sent an incomplete set")

// receiveStreams is the other end of sendStreams. There is always a session.
func receiveStreams(conn *net.UnixConn) (*api.Streams, error) {
	var mask [1]byte
	oob := make([]byte, unix.CmsgSpace(8*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(mask[:], oob)
	if err != nil {
		return nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	files, err := parseRights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	streams := &api.Streams{}
	for i, f := range slots(streams) {
		if mask[0]&(1<<i) != 0 && len(files) > 0 {
			*f, files = files[0], files[1:]
		}
	}
	if n != 1 || len(files) > 0 || streams.Session == nil {
		streams.Close()
		closeAll(files)
		return nil, errIncomplete
	}
	return streams, nil
}

func parseRights(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("receiving descriptors: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			unix.SetNonblock(fd, true)
			files = append(files, os.NewFile(uintptr(fd), "stream"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
