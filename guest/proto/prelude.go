package proto

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Kind tells which byte stream of a process a connection is.
type Kind byte

// The streams of a process. The host writes Stdin and half-closes it; the
// guest writes the others and closes them.
const (
	Stdin Kind = iota
	Stdout
	Stderr
	// Status carries one JSON-encoded End when the process has ended,
	// however many descriptors its children still hold.
	Status
	// Terminal is the whole traffic of a process's terminal. The host's half
	// has no end of its own: closing it hangs the terminal up. Since version
	// 1001.
	Terminal
	// Archive is the bytes of a copy, a tar archive, to or from the guest as it
	// was asked for; whoever writes it ends it. Status tells how the copy went.
	// Since version 1003.
	Archive
)

// String names the stream.
func (k Kind) String() string {
	names := [...]string{"stdin", "stdout", "stderr", "status", "terminal", "archive"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("stream %d", byte(k))
}

// MaxID is the longest process id in bytes.
const MaxID = 64

var preludeMagic = [4]byte{'A', 'G', 'S', '1'}

// Prelude is the first thing on a PortStream connection.
type Prelude struct {
	Kind    Kind
	Process string
	// Kept asks for Stdout or Stderr as package kept carries them: nothing is
	// lost with the connection, and the stream can be dialled again. From is
	// how many bytes of the stream the host has already.
	Kept bool
	From uint64
}

// keptFlag marks, in the byte of the kind, that From follows the id.
const keptFlag = 0x80

// ErrPrelude is wrapped by every error about a malformed prelude.
var ErrPrelude = errors.New("malformed stream prelude")

// WritePrelude writes p in one call: magic, kind, length of the id, id, and
// for a kept stream From.
func WritePrelude(w io.Writer, p Prelude) error {
	if p.Process == "" || len(p.Process) > MaxID {
		return fmt.Errorf("%w: process id of %d bytes, 1 to %d expected", ErrPrelude, len(p.Process), MaxID)
	}
	kind := byte(p.Kind)
	if p.Kept {
		kind |= keptFlag
	}
	b := append(preludeMagic[:len(preludeMagic):len(preludeMagic)], kind, byte(len(p.Process)))
	b = append(b, p.Process...)
	if p.Kept {
		b = binary.BigEndian.AppendUint64(b, p.From)
	}
	_, err := w.Write(b)
	return err
}

// ReadPrelude reads exactly one prelude and not a byte more.
func ReadPrelude(r io.Reader) (Prelude, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Prelude{}, fmt.Errorf("reading stream prelude: %w", err)
	}
	p := Prelude{Kind: Kind(head[4] &^ keptFlag), Kept: head[4]&keptFlag != 0}
	switch {
	case [4]byte(head[:4]) != preludeMagic:
		return Prelude{}, fmt.Errorf("%w: wrong magic", ErrPrelude)
	case p.Kind > Archive, p.Kept && p.Kind != Stdout && p.Kind != Stderr:
		return Prelude{}, fmt.Errorf("%w: unknown kind %d", ErrPrelude, head[4])
	case head[5] == 0 || head[5] > MaxID:
		return Prelude{}, fmt.Errorf("%w: process id of %d bytes", ErrPrelude, head[5])
	}
	rest := make([]byte, int(head[5]), int(head[5])+8)
	if p.Kept {
		rest = rest[:cap(rest)]
	}
	if _, err := io.ReadFull(r, rest); err != nil {
		return Prelude{}, fmt.Errorf("reading stream prelude: %w", err)
	}
	p.Process = string(rest[:head[5]])
	if p.Kept {
		p.From = binary.BigEndian.Uint64(rest[head[5]:])
	}
	return p, nil
}

// ProcessStatus is how a process ended, as the Status stream carries it.
type ProcessStatus struct {
	// Code is the exit code, or 128 + Signal.
	Code int `json:"code"`
	// Signal ended the process, 0 if none did.
	Signal int `json:"signal,omitempty"`
	// Message says why the program could not be started.
	Message string `json:"message,omitempty"`
}

// Output is how many bytes a process had written to each stream when it
// ended. A stream that ends with fewer was cut off: not every transport tells
// the end of a stream from the end of its machine.
type Output struct {
	Stdout int64 `json:"stdout"`
	Stderr int64 `json:"stderr"`
}

// End is the whole line of a Status stream.
type End struct {
	ProcessStatus
	// Output is nil where the guest does not know it.
	Output *Output `json:"output,omitempty"`
}

// WriteStatus writes s as one line.
func WriteStatus(w io.Writer, s ProcessStatus) error { return WriteEnd(w, End{ProcessStatus: s}) }

// WriteEnd writes e as one line.
func WriteEnd(w io.Writer, e End) error { return json.NewEncoder(w).Encode(e) }

// maxStatus bounds what a guest can make the host read as a status.
const maxStatus = 64 << 10

// ReadStatus reads the status that ends a Status stream. io.EOF or
// io.ErrUnexpectedEOF means that the machine went before the process ended.
func ReadStatus(r io.Reader) (ProcessStatus, error) {
	e, err := ReadEnd(r)
	return e.ProcessStatus, err
}

// ReadEnd is ReadStatus that also tells how much output there is.
func ReadEnd(r io.Reader) (End, error) {
	var e End
	if err := json.NewDecoder(io.LimitReader(r, maxStatus)).Decode(&e); err != nil {
		return End{}, fmt.Errorf("reading process status: %w", err)
	}
	return e, nil
}
