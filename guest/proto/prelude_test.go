package proto

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAPreludeIsReadAsItWasWritten(t *testing.T) {
	for _, want := range []Prelude{
		{Kind: Stdin, Process: "p"},
		{Kind: Status, Process: strings.Repeat("x", MaxID)},
		{Kind: Stdout, Process: "p", Kept: true},
		{Kind: Stderr, Process: strings.Repeat("x", MaxID), Kept: true, From: 1<<64 - 2},
	} {
		var b bytes.Buffer
		if err := WritePrelude(&b, want); err != nil {
			t.Fatal(err)
		}
		b.WriteString("what follows")
		got, err := ReadPrelude(&b)
		if err != nil || got != want {
			t.Errorf("read %+v, %v, want %+v", got, err, want)
		}
		if b.String() != "what follows" {
			t.Errorf("after the prelude comes %q", b.String())
		}
	}
}

func TestAMalformedPreludeIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"nothing":          {"", io.EOF},
		"a cut head":       {"AGS1\x00", io.ErrUnexpectedEOF},
		"another protocol": {"GET / HTTP/1.1", ErrPrelude},
		"an unknown kind":  {"AGS1\x7f\x01p", ErrPrelude},
		"no id":            {"AGS1\x00\x00", ErrPrelude},
		"too long an id":   {"AGS1\x00\x41" + strings.Repeat("x", 65), ErrPrelude},
		"a cut id":         {"AGS1\x00\x05pro", io.ErrUnexpectedEOF},
		"a kept stdin":     {"AGS1\x80\x01p\x00\x00\x00\x00\x00\x00\x00\x00", ErrPrelude},
		"a cut offset":     {"AGS1\x81\x01p\x00\x00\x00\x00\x00\x00\x00", io.ErrUnexpectedEOF},
	} {
		if _, err := ReadPrelude(strings.NewReader(c.in)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, id := range []string{"", strings.Repeat("x", MaxID+1)} {
		if err := WritePrelude(io.Discard, Prelude{Process: id}); !errors.Is(err, ErrPrelude) {
			t.Errorf("writing an id of %d bytes: %v", len(id), err)
		}
	}
}

func TestAStatusIsReadAsItWasWritten(t *testing.T) {
	want := ProcessStatus{Code: 137, Signal: 9, Message: "killed\n\"so\""}
	var b bytes.Buffer
	if err := WriteStatus(&b, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadStatus(&b); err != nil || got != want {
		t.Errorf("read %+v, %v", got, err)
	}
	end := End{ProcessStatus: want, Output: &Output{Stdout: 1 << 40, Stderr: 3}}
	WriteEnd(&b, end)
	if got, err := ReadEnd(&b); err != nil || got.ProcessStatus != want || got.Output == nil || *got.Output != *end.Output {
		t.Errorf("read %+v, %v", got, err)
	}
	for in, want := range map[string]error{"": io.EOF, `{"code":1`: io.ErrUnexpectedEOF} {
		if _, err := ReadStatus(strings.NewReader(in)); !errors.Is(err, want) {
			t.Errorf("status %q: %v, want %v", in, err, want)
		}
	}
	if _, err := ReadStatus(strings.NewReader(`{"message":"` + strings.Repeat("x", maxStatus))); err == nil {
		t.Error("an endless status was read")
	}
}

// FuzzPrelude reads any bytes: what is read must be what writing it gives,
// and nothing after it may be touched.
func FuzzPrelude(f *testing.F) {
	f.Add([]byte("AGS1\x01\x03abcrest"))
	f.Add([]byte("AGS1\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		p, err := ReadPrelude(r)
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WritePrelude(&b, p); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if read := in[:len(in)-r.Len()]; !bytes.Equal(read, b.Bytes()) {
			t.Fatalf("read %q, wrote %q", read, b.Bytes())
		}
	})
}

// FuzzStatus reads any bytes.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"code":1,"signal":9,"message":"x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		ReadStatus(bytes.NewReader(in))
	})
}
