package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// maxStreams is how many streams a guest may have in use. It needs one, and a
// second one for a moment while it mounts.
const maxStreams = 8

// ServeStreams serves the streams that come as descriptors over control, a
// unix socket of packets, until that or ctx ends. It asks for another one, by
// a packet of one byte, whenever none is left in reserve.
func (s *Server) ServeStreams(ctx context.Context, control *net.UnixConn) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { control.Close() })
	defer stop()
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	slots := make(chan struct{}, maxStreams)
	for {
		c, err := receive(control)
		if err != nil {
			return ended(ctx, err)
		}
		slots <- struct{}{} // freed by streams, which end
		streams.Go(func() {
			defer func() { <-slots }()
			another := func() { _, _ = control.Write([]byte{1}) } // who does not read it ends us
			if err := s.serve(ctx, c, another); err != nil {
				s.log.Info("a stream ended", "error", err)
			}
		})
	}
}

// receive waits for a descriptor.
func receive(control *net.UnixConn) (net.Conn, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := control.ReadMsgUnix(b[:], oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 || flags&unix.MSG_CTRUNC != 0 {
		return nil, errors.Join(errors.New("one descriptor was expected"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("one descriptor was expected"), err)
	}
	unix.CloseOnExec(fds[0])
	f := os.NewFile(uintptr(fds[0]), "stream")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("a stream: %w", err)
	}
	return c, nil
}
