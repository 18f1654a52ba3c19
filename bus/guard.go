package bus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"

	"github.com/godbus/dbus/v5"
)

// Anybody on the system bus may send anybody a signal, so what arrives there
// is hostile before any policy of ours applies. godbus panics on an array or
// a map of descriptors, ends the connection at types that it cannot decode,
// and never closes a descriptor that the body does not mention. The guard
// stands between the bus and godbus and drops such messages with all their
// descriptors. It changes nothing in what it lets through.

// maxFrame is the longest message that D-Bus allows.
const maxFrame = 1 << 27

var errFrame = errors.New("malformed message from the bus")

// frameSize tells how long the message is that b begins with, 0 if more of b
// is needed to tell or it is not whole yet. What begins with neither mark of
// a byte order is text of the authentication, which comes before.
func frameSize(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	order := byteOrder(b[0])
	if order == nil {
		return len(b), nil
	}
	if len(b) < 16 {
		return 0, nil
	}
	body, fields := uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[12:]))
	size := 16 + (fields+7)&^7 + body
	if size > maxFrame {
		return 0, fmt.Errorf("%w: %d bytes", errFrame, size)
	}
	if uint64(len(b)) < size {
		return 0, nil
	}
	return int(size), nil
}

func byteOrder(mark byte) binary.ByteOrder {
	switch mark {
	case 'l':
		return binary.LittleEndian
	case 'B':
		return binary.BigEndian
	}
	return nil
}

// frameFDs tells how many descriptors belong to a whole message: the header
// field UNIX_FDS. It reads the header itself, because godbus decodes a header
// only together with its body.
func frameFDs(frame []byte) (int, error) {
	order := byteOrder(frame[0])
	if order == nil {
		return 0, nil
	}
	h := fields{b: frame[:16+order.Uint32(frame[12:])], at: 16, order: order}
	for h.at < len(h.b) && h.err == nil {
		h.align(8)
		if code, n := h.byte(), h.value(); code == byte(dbus.FieldUnixFDs) && h.err == nil {
			return int(n), nil
		}
	}
	return 0, h.err
}

// fields reads the fields of a header. After an error it stands still.
type fields struct {
	b     []byte
	at    int
	order binary.ByteOrder
	err   error
}

func (f *fields) take(n int) []byte {
	if f.err != nil || n < 0 || n > len(f.b)-f.at {
		f.err = errFrame
		return make([]byte, 4)
	}
	f.at += n
	return f.b[f.at-n : f.at]
}

func (f *fields) align(n int) { f.take((n - f.at%n) % n) }

func (f *fields) byte() byte { return f.take(1)[0] }

func (f *fields) uint32() uint32 {
	f.align(4)
	return f.order.Uint32(f.take(4))
}

// value passes over a variant of one of the types that headers have, and
// returns it if it is a number.
func (f *fields) value() uint32 {
	switch string(f.take(int(f.byte()) + 1)) {
	case "u\x00":
		return f.uint32()
	case "s\x00", "o\x00":
		f.take(int(min(f.uint32(), maxFrame)) + 1)
	case "g\x00":
		f.take(int(f.byte()) + 1)
	default:
		f.err = errFrame
	}
	return 0
}

// digestible tells whether godbus survives a whole message with n
// descriptors, whether its body names each of them exactly once, and whether
// somebody will look for them there.
func digestible(frame []byte, n int) (ok bool) {
	if byteOrder(frame[0]) == nil {
		return n == 0
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = i
	}
	msg, err := dbus.DecodeMessageWithFDs(bytes.NewReader(frame), numbers)
	if err != nil || n > 0 && msg.Type == dbus.TypeSignal {
		return false // no signal of ours has descriptors, and nobody would close them
	}
	named := descriptors(msg.Body)
	slices.Sort(named)
	return len(named) == n && len(slices.Compact(named)) == n && !dangling(reflect.ValueOf(msg.Body))
}

// dangling tells whether a body names a descriptor that was not sent.
func dangling(body reflect.Value) bool {
	found := false
	leaves(body, func(v any) {
		if _, index := v.(dbus.UnixFDIndex); index {
			found = true
		}
	})
	return found
}

// inbox gathers what arrives from the bus and gives it out in messages.
type inbox struct {
	bytes []byte
	fds   []int
}

// next takes the next whole message with its descriptors; io.EOF when there
// is none yet.
func (i *inbox) next() (frame []byte, fds []int, err error) {
	size, err := frameSize(i.bytes)
	if err != nil {
		return nil, nil, err
	}
	if size == 0 {
		return nil, nil, io.EOF
	}
	frame, i.bytes = i.bytes[:size], i.bytes[size:]
	n, err := frameFDs(frame)
	if err != nil {
		return nil, nil, err
	}
	if n > len(i.fds) {
		return nil, nil, fmt.Errorf("%w: %d descriptors of %d", errFrame, len(i.fds), n)
	}
	fds, i.fds = i.fds[:n], i.fds[n:]
	if len(i.bytes) == 0 {
		i.bytes = nil // or a large message would be kept until the next
	}
	return frame, fds, nil
}
