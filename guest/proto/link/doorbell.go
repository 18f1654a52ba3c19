package link

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// PortName is the name of the virtio-serial port that a link runs on.
const PortName = "aegis.control"

// bell is what the guest writes once, before any host has attached.
var bell = []byte("AEGIS GUEST UP\r\n")

// maxNoise is how much else may come before the bell.
const maxNoise = 4096

// ErrNoDoorbell is wrapped when something else than the doorbell came.
var ErrNoDoorbell = errors.New("no doorbell")

// Ring rings the doorbell: the guest can be attached to.
func Ring(w io.Writer) error {
	if _, err := w.Write(bell); err != nil {
		return fmt.Errorf("ringing the doorbell: %w", err)
	}
	return nil
}

// Deadliner is a reader that can be told to give up, as every net.Conn and
// every os.File that can be polled.
type Deadliner interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// AwaitDoorbell returns when the guest has rung. It reads not a byte more
// than the bell and leaves r without a deadline. It fails when ctx ends, when
// r does and when the guest writes something else.
func AwaitDoorbell(ctx context.Context, r Deadliner) error {
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Unix(1, 0)) })
	err := await(r)
	if !stop() {
		return fmt.Errorf("waiting for the doorbell: %w", context.Cause(ctx))
	}
	if err != nil {
		return fmt.Errorf("waiting for the doorbell: %w", err)
	}
	return nil
}

// await reads byte by byte where it has to.
func await(r io.Reader) error {
	var got []byte
	for len(got) < maxNoise {
		b := make([]byte, missing(got))
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if bytes.HasSuffix(got, bell) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w in the first %d bytes that the guest wrote", ErrNoDoorbell, maxNoise)
}

// missing is how much of the bell cannot have come yet.
func missing(got []byte) int {
	for n := min(len(bell)-1, len(got)); n > 0; n-- {
		if bytes.HasSuffix(got, bell[:n]) {
			return len(bell) - n
		}
	}
	return len(bell)
}
