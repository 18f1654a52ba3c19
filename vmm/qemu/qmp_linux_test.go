package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// server is QEMU's end of a QMP connection, played by a test.
type server struct {
	*net.UnixConn
	lines *bufio.Scanner
}

// connected gives a client and what its events are told to.
func connected(t *testing.T) (*qmp, *server, chan string) {
	t.Helper()
	ours, theirs, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	c, err := net.FileConn(theirs)
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan string, 100)
	q := newQMP(ours, func(name string, data json.RawMessage) { events <- name + string(data) })
	t.Cleanup(func() { c.Close(); ours.Close(); <-q.gone })
	return q, &server{UnixConn: c.(*net.UnixConn), lines: bufio.NewScanner(c)}, events
}

func (s *server) say(format string, a ...any) { fmt.Fprintf(s, format+"\n", a...) }

// command reads one command and returns its name and id.
func (s *server) command(t *testing.T) (name, id string) {
	t.Helper()
	if !s.lines.Scan() {
		t.Fatalf("no command: %v", s.lines.Err())
	}
	var m struct{ Execute, ID string }
	if err := json.Unmarshal(s.lines.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return m.Execute, m.ID
}

func TestQMPShakesHandsAndMatchesAnswersById(t *testing.T) {
	q, s, events := connected(t)
	shaken := make(chan error, 1)
	go func() { shaken <- q.handshake(t.Context()) }()
	s.say(`{"QMP": {"version": {}, "capabilities": ["oob"]}}`)
	name, id := s.command(t)
	if name != "qmp_capabilities" {
		t.Fatalf("first command %q", name)
	}
	s.say(`{"return": {}, "id": %q}`, id)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- q.call(t.Context(), "one", nil) }()
	_, one := s.command(t)
	go func() { second <- q.call(t.Context(), "two", nil) }()
	_, two := s.command(t)
	s.say(`{"event": "STOP", "data": {"a": 1}, "timestamp": {"seconds": 1}}`)
	s.say(`{"id": %q, "error": {"class": "GenericError", "desc": "not today"}}`, two)
	s.say(`{"return": 7, "id": %q}`, one)
	if err := <-first; err != nil {
		t.Errorf("one: %v", err)
	}
	var refused *qmpError
	if err := <-second; !errors.As(err, &refused) || err.Error() != "two: not today" {
		t.Errorf("two: %v", err)
	}
	if e := <-events; e != `STOP{"a": 1}` {
		t.Errorf("event %q", e)
	}
}

func TestQMPCallsEndWhenTheMonitorGoes(t *testing.T) {
	for name, end := range map[string]func(*server){
		"hangs up":             func(s *server) { s.Close() },
		"speaks no JSON":       func(s *server) { s.say("hello?") },
		"never ends its line":  func(s *server) { s.Write([]byte(strings.Repeat(" ", maxMessage+1))) },
		"shuts its write side": func(s *server) { s.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			q, s, _ := connected(t)
			got := make(chan error, 1)
			go func() { got <- q.call(t.Context(), "stop", nil) }()
			s.command(t)
			end(s)
			if err := <-got; !errors.Is(err, errMonitorGone) {
				t.Errorf("error %v", err)
			}
			if err := q.call(t.Context(), "stop", nil); !errors.Is(err, errMonitorGone) {
				t.Errorf("a later call: %v", err)
			}
			if err := q.handshake(t.Context()); !errors.Is(err, errMonitorGone) {
				t.Errorf("a handshake: %v", err)
			}
		})
	}
}

func TestQMPCallsEndWithTheirContext(t *testing.T) {
	q, s, _ := connected(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := q.call(ctx, "stop", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if len(q.waiting) != 0 {
		t.Error("the call is still waited for")
	}
	_, id := s.command(t)
	s.say(`{"return": {}, "id": %q}`, id) // too late: nobody may trip over it
	got := make(chan error, 1)
	go func() { got <- q.call(t.Context(), "cont", nil) }()
	_, id = s.command(t)
	s.say(`{"return": {}, "id": %q}`, id)
	if err := <-got; err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestQMPPassesFiles(t *testing.T) {
	q, s, _ := connected(t)
	got := make(chan error, 1)
	go func() { got <- q.call(t.Context(), "getfd", map[string]any{"fdname": "state"}, os.Stdin) }()
	b, oob := make([]byte, 1000), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := s.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("files %v, %v", fds, err)
	}
	unix.Close(fds[0])
	if want := `{"execute":"getfd","arguments":{"fdname":"state"},"id":"1"}` + "\n"; string(b[:n]) != want {
		t.Errorf("sent %q, want %q", b[:n], want)
	}
	s.say(`{"return": {}, "id": "1"}`)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func FuzzQMPMessage(f *testing.F) {
	for _, s := range []string{
		`{"QMP": {}}`, `{"return": {}, "id": "1"}`, `{"error": {"desc": "x"}, "id": "2"}`,
		`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}`, `{"id": 5}`, `[]`, `{`, "\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parseMessage(line)
		if err != nil {
			return
		}
		var v verdict
		v.event(m.Event, m.Data)
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("%q cannot be written again: %v", line, err)
		}
	})
}
