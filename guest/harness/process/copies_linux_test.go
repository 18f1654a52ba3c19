package process

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// stored starts a detached process whose output is kept for the host.
func (g *guest) stored(argv ...string) *run {
	g.Helper()
	s := detached(g.spec(argv...))
	s.Kept = true
	return g.start(s)
}

func TestTheHostAndAClientBothGetTheOutputOfADetachedProcess(t *testing.T) {
	g := newGuest(t)
	r := g.stored("sh", "-c", "echo one; read x; echo two; read x; echo three; echo problem >&2; exit 5")
	stdin := r.dial(proto.Stdin)
	out, _ := r.keep(proto.Stdout, 0)
	host := bufio.NewReader(out)
	if line, _ := host.ReadString('\n'); line != "one\n" {
		t.Fatalf("the host got %q", line)
	}
	client := r.dial(proto.Stdout)
	lines := bufio.NewReader(client)
	if line, _ := lines.ReadString('\n'); line != "one\n" {
		t.Errorf("the client got %q of what was before it", line)
	}
	io.WriteString(stdin, "\n")
	if line, _ := lines.ReadString('\n'); line != "two\n" {
		t.Errorf("the client got %q", line)
	}
	if other := all(t, r.dial(proto.Stdout)); other != "" {
		t.Errorf("a second client got %q", other)
	}
	client.Close()
	io.WriteString(stdin, "\n")
	if rest := all(t, host); rest != "two\nthree\n" {
		t.Errorf("the host got %q", rest)
	}
	out.Stored(uint64(len("one\ntwo\nthree\n")))
	errs, _ := r.keep(proto.Stderr, 0)
	if got := all(t, errs); got != "problem\n" {
		t.Errorf("the host got %q of stderr", got)
	}
	errs.Stored(uint64(len("problem\n")))
	for kind, want := range map[proto.Kind]string{proto.Stdout: "three\n", proto.Stderr: "problem\n"} {
		if got := all(t, r.dial(kind)); got != want {
			t.Errorf("a client that comes after the end got %q of %s, not %q", got, kind, want)
		}
	}
	r.status = r.dial(proto.Status)
	if got := r.ended(); got.Code != 5 {
		t.Errorf("status %+v", got)
	}
	g.Drain(t.Context())
	if _, err := g.get(r.id); err == nil {
		t.Error("the process is not forgotten although everybody knows all of it")
	}
}

func TestADetachedProcessWaitsForTheHostThatStoresIt(t *testing.T) {
	g := newGuest(t)
	const lines = 200000
	r := g.stored("seq", "200000")
	client := r.dial(proto.Stdout)
	first := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(client)
		first <- string(b)
	}()
	out, _ := r.keep(proto.Stdout, 0)
	at, text := uint64(0), strings.Builder{}
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		text.Write(buf[:n])
		at += uint64(n)
		out.Stored(at)
		if err != nil {
			break
		}
	}
	for who, got := range map[string]string{"host": text.String(), "client": <-first} {
		if n := strings.Count(got, "\n"); n != lines || !strings.HasPrefix(got, "1\n2\n3\n") || !strings.HasSuffix(got, "\n200000\n") {
			t.Errorf("the %s got %d lines of %d", who, n, lines)
		}
	}
}

func TestAClientThatReadsNothingHoldsNobodyUpOnceItHasLeft(t *testing.T) {
	g := newGuest(t)
	r := g.stored("seq", "300000")
	client := r.dial(proto.Stdout)
	out, _ := r.keep(proto.Stdout, 0)
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	client.Close()
	at := uint64(0)
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		at += uint64(n)
		out.Stored(at)
		if err != nil {
			break
		}
	}
	if want := uint64(1988895); at != want {
		t.Errorf("the host got %d bytes of %d", at, want)
	}
}
