package worker

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
)

// half is a connection that is no *net.UnixConn, as a stream of a
// multiplexer is none.
type half struct{ *net.UnixConn }

// spliced makes a splice and gives both far ends: the client's and the
// guest's.
func spliced(t *testing.T) (client, guest *net.UnixConn, done chan struct{}, over chan struct{}) {
	t.Helper()
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	guestSide, far, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	g, err := net.FileConn(far)
	if err != nil {
		t.Fatal(err)
	}
	far.Close()
	done, over = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		splice(ours, half{guestSide}, done)
	}()
	t.Cleanup(func() { c.Close(); g.Close() })
	return c.(*net.UnixConn), g.(*net.UnixConn), done, over
}

func TestASpliceCarriesBothWaysAndEachEndAlone(t *testing.T) {
	client, guest, _, over := spliced(t)
	data := make([]byte, 5<<20)
	rand.Read(data)
	echoed := make(chan error, 1)
	go func() { // the guest echoes, and ends only when its input has
		_, err := io.Copy(guest, onlyReader{guest})
		guest.CloseWrite()
		echoed <- err
	}()
	go func() {
		client.Write(data)
		client.CloseWrite()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, or others (%v)", len(got), len(data), err)
	}
	if err := <-echoed; err != nil {
		t.Error(err)
	}
	<-over
}

func TestAGuestNeverBlocksOnAReaderThatIsGone(t *testing.T) {
	client, guest, _, over := spliced(t)
	client.Close()
	data := make([]byte, 1<<20)
	for range 16 {
		if _, err := guest.Write(data); err != nil {
			t.Fatalf("the guest cannot write: %v", err)
		}
	}
	guest.Close()
	<-over
}

func TestTheLastBytesReachAReaderThatComesAfterTheEnd(t *testing.T) {
	client, guest, done, over := spliced(t)
	data := make([]byte, 300<<10) // more than the socket holds before the end
	rand.Read(data)
	written := make(chan struct{})
	go func() {
		guest.Write(data)
		guest.Close()
		close(written)
	}()
	<-written
	close(done)
	<-over // nobody has read a byte
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came of %d, or others (%v)", len(got), len(data), err)
	}
}

func TestTheEndOfTheMachineEndsASpliceWhoseClientStays(t *testing.T) {
	client, guest, done, over := spliced(t)
	guest.Close()
	close(done)
	<-over
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("error %v, EOF expected", err)
	}
}
