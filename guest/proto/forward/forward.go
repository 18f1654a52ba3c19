// Package forward carries connections of the host to programs in the guest:
// what is said on a connection to proto.PortForward, and the guest's half of
// it. The host says where to; the guest answers whether somebody is there, and
// from then on the connection is that program's, half-closes included.
package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode"
)

// Network is what the program speaks.
type Network byte

// The networks. Datagrams travel as WriteDatagram writes them.
const (
	TCP Network = iota
	UDP
)

// Target is where a connection leads to: a port of the guest, whichever of
// its own addresses the program listens on.
type Target struct {
	Network Network
	Port    uint16
	// Wait is how long the guest waits for a program that does not listen yet.
	Wait time.Duration
}

var magic = [4]byte{'A', 'G', 'F', '1'}

// headLen is the length of a target: magic, network, port, milliseconds.
const headLen = 11

// ErrMalformed is wrapped by every error about bytes that are not of this
// protocol.
var ErrMalformed = errors.New("malformed forward")

// WriteTarget writes t in one call.
func WriteTarget(w io.Writer, t Target) error {
	b := append(magic[:len(magic):len(magic)], byte(t.Network))
	b = binary.BigEndian.AppendUint16(b, t.Port)
	ms := min(max(t.Wait.Milliseconds(), 0), math.MaxUint32)
	b = binary.BigEndian.AppendUint32(b, uint32(ms))
	_, err := w.Write(b)
	return err
}

// ReadTarget reads exactly one target and not a byte more.
func ReadTarget(r io.Reader) (Target, error) {
	var b [headLen]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Target{}, fmt.Errorf("reading a forward: %w", err)
	}
	t := Target{
		Network: Network(b[4]), Port: binary.BigEndian.Uint16(b[5:]),
		Wait: time.Duration(binary.BigEndian.Uint32(b[7:])) * time.Millisecond,
	}
	switch {
	case [4]byte(b[:4]) != magic:
		return Target{}, fmt.Errorf("%w: wrong magic", ErrMalformed)
	case t.Network > UDP:
		return Target{}, fmt.Errorf("%w: network %d", ErrMalformed, t.Network)
	case t.Port == 0:
		return Target{}, fmt.Errorf("%w: port 0", ErrMalformed)
	}
	return t, nil
}

// The first byte of an answer.
const (
	connected byte = iota
	refused
	failed
)

// ErrRefused says that nobody listens on the port.
var ErrRefused = errors.New("nobody listens")

// maxWords bounds what a guest says of a failure.
const maxWords = 200

// writeAnswer tells how connecting went.
func writeAnswer(w io.Writer, err error) error {
	b := []byte{connected}
	switch {
	case errors.Is(err, ErrRefused):
		b[0] = refused
	case err != nil:
		words := err.Error()
		words = words[:min(len(words), maxWords)]
		b = append(append(b, byte(len(words))), words...)
		b[0] = failed
	}
	_, err = w.Write(b)
	return err
}

// ReadAnswer reads how connecting went and not a byte more: nil, ErrRefused,
// or an error in the guest's words, made fit to be shown.
func ReadAnswer(r io.Reader) error {
	var b [maxWords]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return fmt.Errorf("reading the answer of a forward: %w", err)
	}
	switch b[0] {
	case connected:
		return nil
	case refused:
		return ErrRefused
	case failed:
	default:
		return fmt.Errorf("%w: answer %d", ErrMalformed, b[0])
	}
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return fmt.Errorf("reading the answer of a forward: %w", err)
	}
	n := int(b[0])
	if n > maxWords {
		return fmt.Errorf("%w: an answer of %d bytes", ErrMalformed, n)
	}
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return fmt.Errorf("reading the answer of a forward: %w", err)
	}
	return errors.New(strings.Map(printable, strings.ToValidUTF8(string(b[:n]), "?")))
}

func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
