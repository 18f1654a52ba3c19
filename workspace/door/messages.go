package door

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// maxMessage bounds a message. Two paths that are as long as they may be fit,
// whatever of them JSON escapes.
const maxMessage = 64 << 10

// Ask sends a request, with a descriptor unless f is nil, and waits for the
// answer and its descriptor, if there is one. A server that cannot tell how it
// went is an error that is no *api.Error.
func Ask(conn *net.UnixConn, r Request, f *os.File) (Answer, *os.File, error) {
	r.Version = Version
	if err := send(conn, r, f); err != nil {
		return Answer{}, nil, err
	}
	var a Answer
	got, err := receive(conn, &a)
	if err == nil {
		err = a.refusal()
	}
	if err != nil {
		closeFile(got)
		return Answer{}, nil, err
	}
	return a, got, nil
}

// Take receives a request, with its descriptor if there is one. An *api.Error
// is one to answer.
func Take(conn *net.UnixConn) (Request, *os.File, error) {
	var r Request
	f, err := receive(conn, &r)
	if err == nil {
		err = r.check()
	}
	if err != nil {
		closeFile(f)
		return Request{}, nil, err
	}
	return r, f, nil
}

// Reply answers, with a descriptor unless f is nil.
func Reply(conn *net.UnixConn, a Answer, f *os.File) error { return send(conn, a, f) }

// Refuse answers with what went wrong.
func Refuse(conn *net.UnixConn, err error) error {
	e := api.AsError(err)
	return send(conn, Answer{Code: e.Code, Error: e.Message}, nil)
}

func closeFile(f *os.File) {
	if f != nil {
		f.Close()
	}
}

func send(conn *net.UnixConn, v any, f *os.File) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("making a message: %w", err)
	}
	if len(text) > maxMessage {
		return api.Errorf(api.InvalidArgument, "the request has %d bytes: at most %d expected: use shorter paths", len(text), maxMessage)
	}
	var rights []byte
	if f != nil {
		raw, err := f.SyscallConn()
		if err != nil {
			return fmt.Errorf("sending a descriptor: %w", err)
		}
		// Not Fd, which would make it blocking.
		if err := raw.Control(func(fd uintptr) { rights = unix.UnixRights(int(fd)) }); err != nil {
			return fmt.Errorf("sending a descriptor: %w", err)
		}
	}
	if _, _, err := conn.WriteMsgUnix(text, rights, nil); err != nil {
		return fmt.Errorf("sending a message: %w", err)
	}
	return nil
}

// receive reads one message, strictly.
func receive(conn *net.UnixConn, to any) (*os.File, error) {
	text, oob := make([]byte, maxMessage+1), make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(text, oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return nil, fmt.Errorf("receiving a message: %w", err)
	}
	f, err := descriptor(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n > maxMessage || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeFile(f)
		return nil, api.Errorf(api.InvalidArgument, "a message of more than %d bytes, or with more than one descriptor", maxMessage)
	}
	d := json.NewDecoder(bytes.NewReader(text[:n]))
	d.DisallowUnknownFields()
	err = d.Decode(to)
	if _, end := d.Token(); err == nil && end != io.EOF {
		err = errors.New("more than one value")
	}
	if err != nil {
		closeFile(f)
		return nil, api.Errorf(api.InvalidArgument, "reading a message: %w", err)
	}
	return f, nil
}

// descriptor is the one that came with a message, or nil.
func descriptor(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, api.Errorf(api.InvalidArgument, "a message with odd additions")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return nil, api.Errorf(api.InvalidArgument, "a message with odd additions")
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	for _, fd := range fds[1:] {
		unix.Close(fd)
	}
	return os.NewFile(uintptr(fds[0]), "descriptor"), nil
}
