package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// duplex is a connection in memory, half-closed by two pipes.
type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) CloseWrite() error { return d.PipeWriter.Close() }

func (d duplex) Close() error { return errors.Join(d.PipeReader.Close(), d.PipeWriter.Close()) }

// dial serves a stream and returns the host's end of it.
func dial(t *testing.T, s *Server, kind proto.Kind, id string) (host duplex, served chan error) {
	t.Helper()
	fromHost, toGuest := io.Pipe()
	fromGuest, toHost := io.Pipe()
	served = make(chan error, 1)
	go func() {
		served <- s.Serve(duplex{fromHost, toHost}, proto.Prelude{Kind: kind, Process: id})
	}()
	host = duplex{fromGuest, toGuest}
	t.Cleanup(func() { host.Close() })
	return host, served
}

// end reads how a copy went.
func end(t *testing.T, s *Server, id string) proto.End {
	t.Helper()
	c, served := dial(t, s, proto.Status, id)
	e, err := proto.ReadEnd(c)
	if err = errors.Join(err, <-served); err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return e
}

func TestACopyOutTellsItsSize(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0644 f: text")
	s := NewServer(root)
	if err := s.Out("c", "f", false); err != nil {
		t.Fatal(err)
	}
	c, _ := dial(t, s, proto.Archive, "c")
	b, err := io.ReadAll(c)
	if err != nil || entries(t, bytes.NewBuffer(bytes.Clone(b))) != "f" {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if e := end(t, s, "c"); e.Code != 0 || e.Output.Stdout != int64(len(b)) {
		t.Errorf("it went as %+v, and %d bytes came", e, len(b))
	}
	if s.Has("c") {
		t.Error("it is not forgotten")
	}
}

func TestACopyInTellsHowItWent(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0755 d/", "0644 f: old")
	s := NewServer(root)
	for i, c := range []struct {
		path    string
		extract bool
		archive []byte
		want    string
	}{
		{"d", false, mustArchive(e{kind: isFile, name: "x", data: "1"}), ""},
		{"d/new", false, mustArchive(e{kind: isFile, name: "x", data: "2"}), ""},
		{"d", true, mustArchive(e{kind: isFile, name: "y/z", data: "3"}, e{kind: isFile, name: "w", data: "4"}), ""},
		{"f", false, mustArchive(e{kind: isDir, name: "x", mode: 0o755}), "is a file: a folder cannot replace it"},
		{"d", false, mustArchive(e{kind: isFile, name: "x", data: "1"})[:514], "breaks off"},
		{"d", false, mustArchive(e{kind: isFile, name: "x", data: "1"}, e{kind: isFile, name: "y", data: "1"}), "it is not in"},
		{"d", true, mustArchive(e{kind: tar.TypeFifo, name: "p"}), "a fifo"},
	} {
		id := fmt.Sprint("c", i)
		if err := s.In(id, c.path, c.extract, false); err != nil {
			t.Fatal(err)
		}
		host, served := dial(t, s, proto.Archive, id)
		host.Write(c.archive)
		host.CloseWrite()
		e := end(t, s, id)
		if (e.Code != 0) != (c.want != "") || !strings.Contains(e.Message, c.want) {
			t.Errorf("%d: %+v, want %q", i, e, c.want)
		}
		if err := <-served; err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	wantTree(t, root, "0755 d/", "0644 d/x: 1", "0644 d/new: 2", "0755 d/y/", "0644 d/y/z: 3", "0644 d/w: 4", "0644 f: old")
}

func TestCopiesThatCannotBeAreRefused(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0755 d/", "0644 f: F", "loop -> loop")
	s := NewServer(root)
	for _, c := range []struct {
		name string
		err  error
		want error
		code codes.Code
	}{
		{"nothing there", s.Out("a", "nosuch", false), fs.ErrNotExist, codes.NotFound},
		{"nowhere", s.In("a", "no/such", false, false), fs.ErrNotExist, codes.NotFound},
		{"no path", s.Out("a", "", false), ErrInvalid, codes.InvalidArgument},
		{"below a file", s.In("a", "f/x", false, false), nil, codes.InvalidArgument},
		{"a loop", s.Out("a", "loop/x", false), nil, codes.InvalidArgument},
		{"an archive into a file", s.In("a", "f", true, false), ErrInvalid, codes.InvalidArgument},
		{"no id", s.Out("", "d", false), ErrInvalid, codes.InvalidArgument},
		{"a long id", s.Out(strings.Repeat("x", 65), "d", false), ErrInvalid, codes.InvalidArgument},
	} {
		if c.err == nil || c.want != nil && !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
		if _, err := answer(c.err); status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", c.name, err, c.code)
		}
	}
	if s.Has("a") {
		t.Error("one is kept")
	}
	if err := s.Out("twice", "d", false); err != nil {
		t.Fatal(err)
	}
	if _, err := answer(s.Out("twice", "d", false)); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same again: %v", err)
	}
	for i := range maxCopies - 1 {
		if err := s.Out(fmt.Sprint(i), "d", false); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := answer(s.Out("more", "d", false)); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	for _, kind := range []proto.Kind{proto.Archive, proto.Status} {
		_, served := dial(t, s, kind, "nosuch")
		if err := <-served; !errors.Is(err, ErrUnknown) {
			t.Errorf("%v of none: %v", kind, err)
		}
	}
}

func TestTheBytesOfACopyAreDialledOnce(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0644 f: F")
	s := NewServer(root)
	if err := s.Out("c", "f", false); err != nil {
		t.Fatal(err)
	}
	first, _ := dial(t, s, proto.Archive, "c")
	if _, err := io.ReadFull(first, make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	_, served := dial(t, s, proto.Archive, "c")
	if err := <-served; err == nil {
		t.Error("they were dialled twice")
	}
	first.Close() // in the middle
	if e := end(t, s, "c"); e.Code != 1 {
		t.Errorf("a copy that is left went as %+v", e)
	}
}

func TestACopyThatNobodyWantsIsForgotten(t *testing.T) {
	root := t.TempDir()
	write(t, root, "0644 f: F")
	synctest.Test(t, func(t *testing.T) {
		s := NewServer(root)
		for _, id := range []string{"never", "status", "bytes"} {
			if err := s.Out(id, "f", false); err != nil {
				t.Fatal(err)
			}
		}
		waiting, _ := dial(t, s, proto.Status, "status")
		read := make(chan proto.End, 1)
		go func() {
			e, _ := proto.ReadEnd(waiting)
			read <- e
		}()
		c, _ := dial(t, s, proto.Archive, "bytes")
		io.Copy(io.Discard, c)
		if e := <-read; e.Code != 1 || e.Message == "" {
			t.Errorf("a copy without bytes went as %+v", e)
		}
		synctest.Wait()
		for _, id := range []string{"never", "status"} {
			if s.Has(id) {
				t.Errorf("%s is kept", id)
			}
		}
	})
}

func TestAPanicIsAnErrorOfTheCopy(t *testing.T) {
	s := NewServer(t.TempDir())
	err := s.add("c", &transfer{release: func() {}, run: func(io.ReadWriter) (proto.End, error) { panic("oh") }})
	if err != nil {
		t.Fatal(err)
	}
	dial(t, s, proto.Archive, "c")
	if e := end(t, s, "c"); e.Code != 1 || !strings.Contains(e.Message, "panicked: oh") {
		t.Errorf("it went as %+v", e)
	}
}
