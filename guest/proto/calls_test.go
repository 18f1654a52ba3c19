package proto

import (
	"context"
	"errors"
	"net"
	"testing"
)

func TestCallsAreAwaitedUntilTheirAnswersAreWritten(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	var calls Calls
	c := &control{Conn: ours, all: &calls}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	c.begin()
	c.begin()
	for what, next := range map[string]func(){"a call under way": func() {}, "an answer that is not written": c.owe} {
		next()
		if err := calls.Await(over); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	go theirs.Read(make([]byte, 1))
	if _, err := c.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	quiet := make(chan error, 1)
	go func() { quiet <- calls.Await(t.Context()) }()
	c.owe()
	c.Close() // the second answer reaches nobody
	if err := <-quiet; err != nil {
		t.Error(err)
	}
	c.begin()
	c.owe()
	if err := calls.Await(t.Context()); err != nil {
		t.Errorf("a call of a connection that is closed: %v", err)
	}
}
