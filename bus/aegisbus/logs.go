package aegisbus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/godbus/dbus/v5"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/logwire"
	"github.com/xfeldman/aegisvm/bus"
)

// logMethods are the root's methods of logs.
func (s *Server) logMethods() bus.Methods {
	return bus.Methods{"ReadInstanceLog": s.readLog}
}

// readLog answers with the end of a stream that the log is written to.
func (s *Server) readLog(ctx context.Context, r *bus.Request, ref, text string) (dbus.UnixFD, error) {
	q, err := logQuery(text)
	if err != nil {
		return -1, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stream, err := s.aegis.Logs(ctx, ref, q)
	if err != nil {
		cancel()
		return -1, err
	}
	ours, theirs, err := streamPair()
	if err != nil {
		cancel()
		stream.Close()
		return -1, err
	}
	go func() { // ends with the caller's end, which sends nothing
		defer cancel()
		ours.Read(make([]byte, 1))
	}()
	go func() { // ends with the stream, or with ctx
		defer cancel()
		defer stream.Close()
		defer ours.Close()
		logwire.Write(ours, nil, stream, true)
	}()
	return r.Send(theirs), nil
}

func logQuery(text string) (q api.LogQuery, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	err = d.Decode(&q)
	if _, end := d.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("more than one JSON value")
	}
	if err != nil {
		return q, api.Errorf(api.InvalidArgument, "query: %w: expected one JSON object with the parameters of GET /v1/instances/{id}/logs", err)
	}
	return q, nil
}

// streamPair is a pipe of which each end learns that the other was closed.
func streamPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making a stream: %w", err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		syscall.SetNonblock(fd, true)
	}
	return os.NewFile(uintptr(fds[0]), "stream"), os.NewFile(uintptr(fds[1]), "stream"), nil
}

// Logs implements api.Aegis.
func (c *Client) Logs(ctx context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	text, err := json.Marshal(q)
	if err != nil {
		return nil, api.Errorf(api.InvalidArgument, "query: %w", err)
	}
	var f *os.File
	if err := c.call(ctx, "ReadInstanceLog", bus.Args{ref, string(text)}, &f); err != nil {
		return nil, err
	}
	return logwire.NewReader(ctx, f, true), nil
}
