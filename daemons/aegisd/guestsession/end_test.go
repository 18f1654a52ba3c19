package guestsession

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestTheEndOfAConnectionDoesNotOvertakeAnAnswer(t *testing.T) {
	near, far := net.Pipe()
	l := newLingering(near)
	go func() {
		far.Write([]byte("x"))
		far.Close()
	}()
	b := make([]byte, 1)
	if _, err := l.Read(b); err != nil {
		t.Fatal(err)
	}
	heard := time.Now()
	if _, err := l.Read(b); !errors.Is(err, io.EOF) || time.Since(heard) < linger/2 {
		t.Errorf("the end came %v after the answer: %v", time.Since(heard), err)
	}
}

func TestWhoClosesAConnectionDoesNotWaitForItsEnd(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	l := newLingering(near)
	l.last = time.Now().Add(time.Hour)
	ended := make(chan error)
	go func() {
		_, err := l.Read(make([]byte, 1))
		ended <- err
	}()
	l.Close()
	if err := <-ended; err == nil {
		t.Error("it goes on")
	}
}
