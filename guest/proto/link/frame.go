package link

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// version is what this side speaks: how frames carry a session, and what
// runs in it. The layout of a frame is the same in all versions.
const version = 1

const (
	// maxFrame is what a virtio-serial port takes in one write.
	maxFrame = 32 << 10
	// headLen and a header of yamux's are a multiple of eight together, and
	// so is tailLen: copying bytes that are not aligned takes an emulated
	// processor eight times as long.
	headLen = 8 + epochLen + 4
	tailLen = 8
	maxBody = maxFrame - headLen - tailLen
	// padding leaves a whole frame's length of zeros after any cut frame.
	padding = 2 * maxFrame
)

const epochLen = 16

// epoch names one attach of a host.
type epoch [epochLen]byte

type kind byte

const (
	kindNone   kind = iota
	kindReset       // host to guest: a new epoch begins
	kindAccept      // guest to host: it has begun
	kindData
)

// errFrame says that the other side broke the framing.
var errFrame = errors.New("malformed frame on the link")

// versionError says that the other side speaks another version.
type versionError uint32

func (v versionError) Error() string {
	return fmt.Sprintf("the guest speaks version %d of the serial link, this host %d: install a host and a guest of the same release", uint32(v), version)
}

// putHead writes the head of a frame into the first headLen bytes of b.
func putHead(b []byte, k kind, e *epoch, body int) {
	copy(b, "AGL")
	b[3] = byte(k)
	binary.BigEndian.PutUint32(b[4:], uint32(body))
	copy(b[8:], e[:])
	binary.BigEndian.PutUint32(b[8+epochLen:], version)
}

// control makes a frame without a body.
func control(k kind, e *epoch) []byte {
	b := make([]byte, headLen, headLen+tailLen)
	putHead(b, k, e, 0)
	return append(b, e[:tailLen]...)
}

// frame is one decoded frame; its body is part of the decoder's input.
type frame struct {
	kind    kind
	epoch   epoch
	version uint32
	body    []byte
}

// decode reads the frame at the head of b. It returns its length, 0 when b
// does not hold all of it yet, and errFrame when b starts with no frame.
func decode(b []byte) (frame, int, error) {
	if n := min(len(b), 3); !bytes.Equal(b[:n], []byte("AGL")[:n]) {
		return frame{}, 0, errFrame
	}
	if len(b) < headLen {
		return frame{}, 0, nil
	}
	f := frame{kind: kind(b[3]), epoch: epoch(b[8:]), version: binary.BigEndian.Uint32(b[8+epochLen:])}
	body := binary.BigEndian.Uint32(b[4:])
	switch {
	case f.kind < kindReset || f.kind > kindData:
		return frame{}, 0, errFrame
	case body > maxBody, body == 0 && f.kind == kindData, body > 0 && f.kind != kindData:
		return frame{}, 0, errFrame
	}
	n := headLen + int(body) + tailLen
	if len(b) < n {
		return frame{}, 0, nil
	}
	if !bytes.Equal(b[n-tailLen:n], f.epoch[:tailLen]) {
		return frame{}, 0, errFrame
	}
	f.body = b[headLen : n-tailLen]
	return f, n, nil
}

// zeros counts the zero bytes at the head of b.
func zeros(b []byte) int {
	n := 0
	for len(b)-n >= 8 && binary.NativeEndian.Uint64(b[n:]) == 0 {
		n += 8
	}
	for n < len(b) && b[n] == 0 {
		n++
	}
	return n
}
