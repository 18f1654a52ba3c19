package forward

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxDatagram is the longest datagram in bytes, as of UDP over IPv4.
const MaxDatagram = 65507

// WriteDatagram writes b with its length before it, in one call.
func WriteDatagram(w io.Writer, b []byte) error {
	if len(b) > MaxDatagram {
		return fmt.Errorf("%w: a datagram of %d bytes", ErrMalformed, len(b))
	}
	framed := make([]byte, 0, 2+len(b))
	framed = binary.BigEndian.AppendUint16(framed, uint16(len(b)))
	_, err := w.Write(append(framed, b...))
	return err
}

// ReadDatagram reads one datagram into b, which has room for any, and tells
// its length. io.EOF is the end of them.
func ReadDatagram(r io.Reader, b []byte) (int, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > min(MaxDatagram, len(b)) {
		return 0, fmt.Errorf("%w: a datagram of %d bytes", ErrMalformed, n)
	}
	if _, err := io.ReadFull(r, b[:n]); err != nil {
		return 0, fmt.Errorf("reading a datagram: %w", noEOF(err))
	}
	return n, nil
}

// noEOF keeps an end in the middle from being taken for one between.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
