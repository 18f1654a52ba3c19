package channel

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
)

// fifo opens a pipe with a name as if it were a port: what is written to it
// comes back, and it takes no more than a pipe holds.
func fifo(t *testing.T) *port {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openPort(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestAPortTakesMoreThanItHolds(t *testing.T) {
	p := fifo(t)
	data, got := make([]byte, 1<<20+7), make([]byte, 1<<20+7)
	rand.NewChaCha8([32]byte{}).Read(data)
	written := make(chan error, 1)
	go func() {
		n, err := p.Write(data)
		if err == nil && n != len(data) {
			err = io.ErrShortWrite
		}
		written <- err
	}()
	_, err := io.ReadFull(p, got)
	if err := errors.Join(err, <-written); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the bytes came back as others, or: %v", err)
	}
}

func TestClosingAPortWakesItsWriter(t *testing.T) {
	p := fifo(t)
	written := make(chan error, 1)
	go func() {
		_, err := p.Write(make([]byte, 1<<20)) // nobody reads
		written <- err
	}()
	if _, err := p.Read(make([]byte, 1)); err != nil { // it has begun
		t.Fatal(err)
	}
	p.Close()
	if <-written == nil {
		t.Error("a write of more than the port holds succeeded with no reader")
	}
}
