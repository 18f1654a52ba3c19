package main

import (
	"net"
	"os"
	"testing"
)

func TestTheFrontIsTakenOutOfWhatIsKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]*os.File{"front": f, "port.inst-1.80.tcp": nil}
	c := takeFront(kept)
	if c.Socket == nil || c.Missing != "" || len(kept) != 1 {
		t.Fatalf("%+v, left %v", c, kept)
	}
	defer c.Socket.Close()
	if got := c.Socket.Addr().String(); got != l.Addr().String() {
		t.Errorf("it is at %s, %s expected", got, l.Addr())
	}
	if c := takeFront(kept); c.Socket != nil || c.Missing == "" {
		t.Errorf("without one: %+v", c)
	}
}
