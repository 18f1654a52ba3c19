package quick

import (
	"bytes"
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
)

func pipe(t *testing.T) (r, w *os.File, from, to syscall.RawConn) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if from, err = r.SyscallConn(); err == nil {
		to, err = w.SyscallConn()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, w, from, to
}

// TestAll moves more than a pipe holds, so that both sides wait.
func TestAll(t *testing.T) {
	_, w, from, to := pipe(t)
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	wrote := make(chan error, 1)
	go func() {
		n, err := Write(to, want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		w.Close()
		wrote <- err
	}()
	var got []byte
	for b := make([]byte, 30_000); ; {
		n, err := Read(from, b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := <-wrote; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; %d bytes of %d", err, len(got), len(want))
	}
}

func TestErrors(t *testing.T) {
	r, _, from, to := pipe(t)
	if n, err := Read(from, nil); n != 0 || err != nil {
		t.Errorf("nothing to read into: %d, %v", n, err)
	}
	if n, err := Write(to, nil); n != 0 || err != nil {
		t.Errorf("nothing to write: %d, %v", n, err)
	}
	closed := make(chan error, 1)
	go func() {
		_, err := Read(from, make([]byte, 1))
		closed <- err
	}()
	r.Close()
	if err := <-closed; err == nil {
		t.Error("closed under a reader: no error")
	}
	if _, err := Write(to, []byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("without a reader: %v", err)
	}
}
