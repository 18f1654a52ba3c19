package proto

import (
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
)

// String names the stream.
func (k Kind) String() string {
	names := [...]string{"stdin", "stdout", "stderr", "status", "terminal"}
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
}

// ErrPrelude is wrapped by every error about a malformed prelude.
var ErrPrelude = errors.New("malformed stream prelude")

// WritePrelude writes p in one call: magic, kind, length of the id, id.
func WritePrelude(w io.Writer, p Prelude) error {
	if p.Process == "" || len(p.Process) > MaxID {
		return fmt.Errorf("%w: process id of %d bytes, 1 to %d expected", ErrPrelude, len(p.Process), MaxID)
	}
	b := append(preludeMagic[:len(preludeMagic):len(preludeMagic)], byte(p.Kind), byte(len(p.Process)))
	_, err := w.Write(append(b, p.Process...))
	return err
}

// ReadPrelude reads exactly one prelude and not a byte more.
func ReadPrelude(r io.Reader) (Prelude, error) {
	var head [6]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Prelude{}, fmt.Errorf("reading stream prelude: %w", err)
	}
	switch {
	case [4]byte(head[:4]) != preludeMagic:
		return Prelude{}, fmt.Errorf("%w: wrong magic", ErrPrelude)
	case Kind(head[4]) > Terminal:
		return Prelude{}, fmt.Errorf("%w: unknown kind %d", ErrPrelude, head[4])
	case head[5] == 0 || head[5] > MaxID:
		return Prelude{}, fmt.Errorf("%w: process id of %d bytes", ErrPrelude, head[5])
	}
	id := make([]byte, head[5])
	if _, err := io.ReadFull(r, id); err != nil {
		return Prelude{}, fmt.Errorf("reading stream prelude: %w", err)
	}
	return Prelude{Kind: Kind(head[4]), Process: string(id)}, nil
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
