package bus_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// stranger is a client of the bus that sends what no library would.
type stranger struct {
	t      *testing.T
	conn   *net.UnixConn
	in     *bufio.Reader
	serial uint32
}

func newStranger(t *testing.T, address string) *stranger {
	t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(address, "unix:path="), ",")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &stranger{t: t, conn: conn.(*net.UnixConn), in: bufio.NewReader(conn)}
	s.say(fmt.Sprintf("\x00AUTH EXTERNAL %x", fmt.Sprint(os.Getuid())), "OK ")
	s.say("NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD")
	if _, err := conn.Write([]byte("BEGIN\r\n")); err != nil {
		t.Fatal(err)
	}
	s.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello")
	return s
}

func (s *stranger) say(line, want string) {
	s.t.Helper()
	if _, err := s.conn.Write([]byte(line + "\r\n")); err != nil {
		s.t.Fatal(err)
	}
	if got, err := s.in.ReadString('\n'); err != nil || !strings.HasPrefix(got, want) {
		s.t.Fatalf("the bus answered %q (%v), %q expected", got, err, want)
	}
}

// send sends a message with its own and the extra descriptors, its signature
// replaced if fake is not empty.
func (s *stranger) send(kind dbus.Type, dest string, path dbus.ObjectPath, iface, member, fake string, extra []*os.File, body ...any) {
	s.t.Helper()
	s.serial++
	msg := &dbus.Message{Type: kind, Body: body, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(dest), dbus.FieldPath: dbus.MakeVariant(path),
		dbus.FieldInterface: dbus.MakeVariant(iface), dbus.FieldMember: dbus.MakeVariant(member),
	}}
	if len(body) > 0 {
		msg.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(body...))
	}
	own, err := msg.CountFds()
	if n := own + len(extra); n > 0 {
		msg.Headers[dbus.FieldUnixFDs] = dbus.MakeVariant(uint32(n))
	}
	var frame bytes.Buffer
	fds, e := msg.EncodeToWithFDs(&frame, binary.LittleEndian)
	if err != nil || e != nil {
		s.t.Fatal(err, e)
	}
	for _, f := range extra {
		fds = append(fds, int(f.Fd()))
	}
	b := frame.Bytes()
	binary.LittleEndian.PutUint32(b[8:], s.serial)
	if fake != "" {
		b = bytes.Replace(b, []byte(dbus.SignatureOf(body...).String()), []byte(fake), 1)
	}
	if _, _, err := s.conn.WriteMsgUnix(b, unix.UnixRights(fds...), nil); err != nil {
		s.t.Fatal(err)
	}
}

// call makes a call and waits for its reply, after which the service has got
// whatever was sent to it before.
func (s *stranger) call(dest string, path dbus.ObjectPath, iface, member string, body ...any) {
	s.t.Helper()
	s.send(dbus.TypeMethodCall, dest, path, iface, member, "", nil, body...)
	for {
		msg, err := dbus.DecodeMessage(s.in)
		if err != nil {
			s.t.Fatalf("the bus dropped the stranger: %v", err)
		}
		if serial, _ := msg.Headers[dbus.FieldReplySerial].Value().(uint32); serial == s.serial {
			if msg.Type == dbus.TypeError {
				s.t.Fatalf("%s: %v", member, msg.Body)
			}
			return
		}
	}
}

func TestNoMessageOfAStrangerHarmsAService(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address)
	client := bustest.Dial(t, address)
	thing, file := client.Object(name, root+"/thing/one", iface), tempFile(t, "x")
	fd, err := bus.FD(file)
	if err != nil {
		t.Fatal(err)
	}
	type list = []dbus.UnixFD
	type one struct{ FD dbus.UnixFD }
	type two struct{ One one }
	s := newStranger(t, address)
	for _, c := range []struct {
		when, fake string
		extra      []*os.File
		body       []any
	}{
		{when: "a map of descriptors", body: []any{map[string]dbus.UnixFD{"a": fd}}},
		{when: "an array of descriptors", body: []any{list{fd, fd}}},
		{when: "an array of descriptors in a variant in a map", body: []any{map[string]dbus.Variant{"a": dbus.MakeVariant(list{fd})}}},
		{when: "a descriptor in a structure in a structure", body: []any{two{one{fd}}}},
		{when: "descriptors that the body does not mention", extra: []*os.File{file, file, file}},
		{when: "more descriptors than the body mentions", extra: []*os.File{file}, body: []any{fd}},
		{when: "a descriptor that was not sent", fake: "h", body: []any{uint32(7)}},
		{when: "a descriptor that was not sent beside one that was", fake: "hh", body: []any{fd, uint32(7)}},
		{when: "one descriptor twice", fake: "hh", extra: []*os.File{file}, body: []any{uint32(0), uint32(0)}},
		{when: "a map that godbus cannot decode", fake: "a{gs}", body: []any{map[byte]string{0: ""}}},
		{when: "a map that godbus cannot decode, and a descriptor", fake: "a{gs}", extra: []*os.File{file}, body: []any{map[byte]string{0: ""}}},
	} {
		s.call(name, root+"/thing/one", iface, "Count", uint32(0))
		settle(t, thing)
		before := openFiles(t)
		for range 8 {
			s.send(dbus.TypeSignal, name, root, iface, "Any", c.fake, c.extra, c.body...)
			s.send(dbus.TypeMethodCall, name, root+"/thing/one", iface, "Swap", c.fake, c.extra, c.body...)
		}
		s.call(name, root+"/thing/one", iface, "Count", uint32(0))
		settle(t, thing)
		if now := openFiles(t); now > before {
			t.Errorf("%s: %d open files, %d expected", c.when, now, before)
		}
	}
}

func TestWhatWasSentBeforeTheEndArrives(t *testing.T) {
	address := bustest.Start(t)
	listener, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	if err := listener.AddMatchSignal(dbus.WithMatchInterface(iface)); err != nil {
		t.Fatal(err)
	}
	ticks := make(chan *dbus.Signal, 1)
	listener.Signal(ticks)
	for range 50 {
		conn := bustest.Dial(t, address)
		obj, err := conn.Export(root, (&thing{}).table())
		if err != nil {
			t.Fatal(err)
		}
		if err := obj.Emit(iface, "Tick", uint32(1)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if _, open := <-ticks; !open {
			t.Fatal("the bus went away")
		}
	}
}
