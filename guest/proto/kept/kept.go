// Package kept carries the output of a process to a host that may die at any
// instant and must not lose a byte of it. The guest keeps what it has sent
// until the host acknowledges it; the host acknowledges what it has stored,
// and says after its death where it goes on. It owns the bytes of such a
// stream after the prelude; it opens no connection and does not know what the
// bytes mean.
//
// On a connection whose prelude asks for a kept stream from offset F the guest
// answers with the offset that it goes on with, as eight bytes, and then
// sends nothing but the bytes of the stream; its half-close is their end. The
// offset is F, or more where the host has acknowledged more than it knows of.
// The answer is all ones where there is no such stream, or all of it is
// acknowledged.
// The host sends nothing but acknowledgements: the offset up to which it needs
// no byte again, as eight bytes each. Numbers are big-endian.
//
// The guest holds no more than Window bytes that were not acknowledged; the
// process waits when it writes more. A new connection takes a stream over
// from an older one, so that nobody has to find out whether that is dead.
package kept

import (
	"encoding/binary"
	"io"
	"math"
)

// Window is how many bytes the guest keeps for a host that has not
// acknowledged them.
const Window = 256 << 10

// none is the answer where there is no stream.
const none = math.MaxUint64

// Refuse answers that there is no such stream.
func Refuse(w io.Writer) error { return writeOffset(w, none) }

// chunk is how many bytes are moved at once.
const chunk = 64 << 10

func writeOffset(w io.Writer, offset uint64) error {
	_, err := w.Write(binary.BigEndian.AppendUint64(nil, offset))
	return err
}

func readOffset(r io.Reader) (uint64, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(b[:]), nil
}
