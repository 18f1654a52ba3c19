package kept

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Sink is the host's end of a kept stream on one connection, used by one
// goroutine. It reads io.EOF at the end of the stream, and also where the
// connection broke: some transports cannot tell the two. Who dials again from
// where it is gets ErrRefused at the end.
type Sink struct {
	// Start is the offset of the first byte that Read gives.
	Start uint64
	conn  net.Conn
}

// Errors of NewSink.
var (
	// ErrRefused says that the guest has no such stream, or none any more.
	ErrRefused = errors.New("the guest has no such stream")
	// ErrStart says that the guest does not do what it was asked for.
	ErrStart = errors.New("the guest goes on before the offset that it was asked for")
)

// patience is how long a guest may take to answer, or to take an
// acknowledgement.
const patience = 15 * time.Second

// NewSink reads the guest's answer to a prelude that asked for a stream from
// an offset.
func NewSink(c net.Conn, from uint64) (*Sink, error) {
	c.SetReadDeadline(time.Now().Add(patience))
	start, err := readOffset(c)
	switch {
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF // no end of the stream
	case err == nil && start == none:
		err = ErrRefused
	case err == nil && start < from:
		err = fmt.Errorf("%w: %d instead of %d", ErrStart, start, from)
	}
	if err != nil {
		return nil, fmt.Errorf("opening a kept stream: %w", err)
	}
	c.SetReadDeadline(time.Time{})
	return &Sink{Start: start, conn: c}, nil
}

// Read reads the next bytes.
func (s *Sink) Read(b []byte) (int, error) { return s.conn.Read(b) }

// Stored acknowledges every byte before an offset.
func (s *Sink) Stored(before uint64) error {
	s.conn.SetWriteDeadline(time.Now().Add(patience))
	if err := writeOffset(s.conn, before); err != nil {
		return fmt.Errorf("acknowledging what was read: %w", err)
	}
	return nil
}
