package packet

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
)

func connected(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = Conn(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestAPacketCarriesItsFilesAndNoMore(t *testing.T) {
	for files, want := range map[int]int{0: 0, 2: 2, maxFiles: maxFiles, maxFiles + 20: -1} {
		a, b := connected(t)
		all := make([]*os.File, files)
		for i := range all {
			all[i] = os.Stdin
		}
		if err := Send(a, "a packet", all...); err != nil {
			t.Fatal(err)
		}
		var text string
		got, err := Receive(b, &text)
		CloseAll(got)
		if n := len(got); want >= 0 && (n != want || text != "a packet" || err != nil) || want < 0 && err == nil {
			t.Errorf("of %d files %d came with %q (%v), %d expected", files, n, text, err, want)
		}
	}
}

func TestTheEndOfAConnectionIsNoPacket(t *testing.T) {
	a, b := connected(t)
	a.Close()
	var v any
	if _, err := Receive(b, &v); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		t.Errorf("received %v (%v)", v, err)
	}
}

func TestOnlyASocketOfPacketsIsTaken(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if c, err := Conn(r); err == nil {
		t.Errorf("a pipe was taken for %v", c)
	}
}
