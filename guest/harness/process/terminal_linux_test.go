package process

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// console is a program on a terminal whose user is the test.
type console struct {
	*run
	tty   net.Conn
	lines *bufio.Reader
}

func (g *guest) console(argv ...string) *console {
	g.Helper()
	s := g.spec(argv...)
	s.Terminal = &Terminal{Rows: 24, Cols: 80, Term: "vt100"}
	return g.open(s)
}

func (g *guest) open(s Spec) *console {
	g.Helper()
	r := g.start(s)
	c := &console{run: r, tty: r.dial(proto.Terminal)}
	r.status = r.dial(proto.Status)
	c.tty.SetReadDeadline(time.Now().Add(20 * time.Second))
	c.lines = bufio.NewReader(c.tty)
	return c
}

func (c *console) types(text string) {
	c.g.Helper()
	if _, err := io.WriteString(c.tty, text); err != nil {
		c.g.Fatal(err)
	}
}

// shows reads until the terminal has shown text.
func (c *console) shows(text string) (before string) {
	c.g.Helper()
	var seen strings.Builder
	for !strings.HasSuffix(seen.String(), text) {
		b, err := c.lines.ReadByte()
		if err != nil {
			c.g.Fatalf("the terminal showed %q, then %v, not %q", seen.String(), err, text)
		}
		seen.WriteByte(b)
	}
	return strings.TrimSuffix(seen.String(), text)
}

func (c *console) rest() string {
	c.g.Helper()
	return all(c.g.T, c.lines)
}

func TestATerminalHasItsSizeNameAndModes(t *testing.T) {
	g := newGuest(t)
	c := g.console("sh", "-c", "stty size; echo $TERM; test -t 0 -a -t 1 -a -t 2 && echo three; cat /dev/tty & wait; stty -a")
	if got := c.shows("three\r\n"); got != "24 80\r\nvt100\r\n" {
		t.Errorf("it says %q", got)
	}
	c.types("\x04")
	modes := c.rest()
	for _, want := range []string{"isig", "icanon", "echo", "icrnl", "opost", "onlcr", "iutf8", "ixon"} {
		if !strings.Contains(strings.NewReplacer(";", " ", "\r\n", " ").Replace(modes), " "+want+" ") {
			t.Errorf("its modes lack %s: %q", want, modes)
		}
	}
	if got := c.ended(); got.Code != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestTermOfTheEnvironmentWins(t *testing.T) {
	g := newGuest(t)
	s := g.spec("sh", "-c", "echo $TERM")
	s.Terminal, s.Env = &Terminal{Term: "vt100"}, append(s.Env, "TERM=xterm-256color")
	if got := g.open(s).rest(); got != "xterm-256color\r\n" {
		t.Errorf("TERM is %q", got)
	}
}

func TestATerminalEchoesAndEndsTheInput(t *testing.T) {
	c := newGuest(t).console("cat")
	c.types("hello\r")
	c.shows("hello\r\nhello\r\n")
	c.types("\x04")
	if got := c.rest(); got != "" {
		t.Errorf("then came %q", got)
	}
	if got := c.ended(); got.Code != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestAResizeIsSeenAndTold(t *testing.T) {
	g := newGuest(t)
	c := g.console("sh", "-c", `trap 'stty size' WINCH; echo ready; while :; do read l; test "$l" = q && exit; done`)
	c.shows("ready\r\n")
	for _, size := range []struct {
		rows, cols uint16
		want       string
	}{{60, 200, "60 200\r\n"}, {1, 1, "1 1\r\n"}} {
		if err := g.Resize(c.id, size.rows, size.cols); err != nil {
			t.Fatal(err)
		}
		c.shows(size.want)
	}
	c.types("q\r")
	c.rest()
	if err := g.Resize(c.id, 1, 2); err != nil && !errors.Is(err, ErrNotFound) {
		t.Errorf("resizing what has ended: %v", err)
	}
	if err := g.Resize(g.run("cat").id, 1, 2); !errors.Is(err, ErrNoTTY) {
		t.Errorf("resizing what has none: %v", err)
	}
}

func TestCtrlCInterruptsTheForeground(t *testing.T) {
	c := newGuest(t).console("sh", "-c", "echo ready; exec sleep 1000")
	c.shows("ready\r\n")
	c.types("\x03")
	if got := c.ended(); got.Signal != int(syscall.SIGINT) {
		t.Errorf("status %+v", got)
	}
	if got := c.rest(); got != "^C" {
		t.Errorf("it shows %q", got)
	}
}

func TestAShellControlsJobs(t *testing.T) {
	if _, err := os.Stat("/bin/bash"); err != nil {
		t.Skip("SKIPPED: there is no /bin/bash: install bash")
	}
	g := newGuest(t)
	s := g.spec("/bin/bash", "--norc", "--noprofile", "-i")
	s.Terminal, s.Env = &Terminal{Rows: 24, Cols: 80, Term: "dumb"}, append(s.Env, "PS1=> ", "HISTFILE=")
	c := g.open(s)
	c.shows("> ")
	c.types("sh -c 'trap \"echo ag\"ain\"; exit 5\" CONT; echo rea''dy; while :; do read l; done'\r")
	c.shows("ready\r\n")
	c.types("\x1a")
	c.shows("Stopped")
	c.shows("> ")
	c.types("fg; echo code $?\r")
	c.shows("again\r\ncode 5\r\n")
	c.types("exit 7\r")
	c.rest()
	if got := c.ended(); got.Code != 7 {
		t.Errorf("status %+v", got)
	}
}

func TestOutputOfATerminalIsWholeAfterTheEnd(t *testing.T) {
	const lines = 1 << 16 // 1 MiB
	g := newGuest(t)
	c := g.console("sh", "-c", "exec seq -f '%014.0f' 65536")
	got := c.rest()
	if len(got) != lines*16 || !strings.HasSuffix(got, "00000000065536\r\n") || !strings.HasPrefix(got, "00000000000001\r\n") {
		t.Errorf("%d bytes of %d came", len(got), lines*16)
	}
}

func TestOutputOfATerminalIsKeptForTheHost(t *testing.T) {
	g := newGuest(t)
	s := g.spec("seq", "500")
	s.Terminal = &Terminal{}
	r := g.start(s)
	if _, err := g.Wait(t.Context(), r.id); err != nil {
		t.Fatal(err)
	}
	if got := all(t, r.dial(proto.Terminal)); !strings.HasPrefix(got, "1\r\n2\r\n") || !strings.HasSuffix(got, "\r\n500\r\n") {
		t.Errorf("%d bytes came", len(got))
	}
}

func TestAMebibyteIsTypedIntoATerminal(t *testing.T) {
	g := newGuest(t)
	c := g.console("sh", "-c", "stty raw -echo; echo ready; head -c 1048576 | tr a b | md5sum")
	c.shows("ready\n")
	go io.WriteString(c.tty, strings.Repeat("a", 1<<20)) // ends with the program
	c2 := g.run("sh", "-c", "head -c 1048576 /dev/zero | tr '\\0' b | md5sum")
	if got, want := c.rest(), all(t, c2.stdout); got != want {
		t.Errorf("the sum is %q, want %q", got, want)
	}
}

func TestWhatAnEndedProcessLeftOnItsTerminalDoesNotHoldItUp(t *testing.T) {
	c := newGuest(t).console("sh", "-c", "trap '' HUP; sleep 1000 & echo done; exit 3")
	if got := c.ended(); got.Code != 3 {
		t.Fatalf("status %+v", got)
	}
	if got := c.rest(); got != "done\r\n" {
		t.Errorf("output %q", got)
	}
	killSession(c.pid)
}

func TestAUserThatGoesHangsTheTerminalUp(t *testing.T) {
	g := newGuest(t)
	s := g.spec("sh", "-c", "echo ready; sleep 1000")
	s.Terminal = &Terminal{}
	c := g.open(s)
	c.shows("ready\r\n")
	c.tty.Close()
	if got := c.ended(); got.Signal != int(syscall.SIGHUP) {
		t.Errorf("status %+v", got)
	}
}

// clientOf makes a process that is to end with its client.
func clientOf(s Spec) Spec {
	s.Lifetime = proto.Lifetime_LIFETIME_CLIENT
	return s
}

func TestAProcessEndsWithItsClient(t *testing.T) {
	g := newGuest(t)
	for name, s := range map[string]Spec{
		"pipes":    clientOf(g.spec("sh", "-c", "echo ready; sleep 1000")),
		"terminal": clientOf(Spec{ID: "t", Argv: []string{"sh", "-c", "echo ready; sleep 1000"}, Env: []string{"PATH=/usr/bin:/bin"}, Terminal: &Terminal{}}),
	} {
		r := g.start(s)
		kind := proto.Stdout
		if s.Terminal != nil {
			kind = proto.Terminal
		}
		out := r.dial(kind)
		r.status = r.dial(proto.Status)
		io.ReadFull(out, make([]byte, len("ready")))
		r.status.Close()
		if got, err := g.Wait(t.Context(), r.id); err != nil || got.Signal != int(syscall.SIGHUP) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		out.Close()
	}
}

func TestWhatIgnoresTheHangupIsKilledWithItsSession(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: takes the 5 s of the contract")
	}
	g := newGuest(t)
	r := g.start(clientOf(g.spec("sh", "-c", "trap '' HUP; (echo ready; exec sleep 1000) & wait")))
	out := r.dial(proto.Stdout)
	r.status = r.dial(proto.Status)
	io.ReadFull(out, make([]byte, len("ready")))
	r.status.Close()
	if got, err := g.Wait(t.Context(), r.id); err != nil || got.Signal != int(syscall.SIGKILL) {
		t.Errorf("it ended with %+v, %v", got, err)
	}
	<-g.reaper.None() // and its child
}

func TestAProcessIsEndedInTime(t *testing.T) {
	g := newGuest(t)
	s := g.spec("sleep", "1000")
	s.Timeout = 50 * time.Millisecond
	want := proto.ProcessStatus{Code: 124, Message: "timed out after 50ms"}
	if got, err := g.Wait(t.Context(), g.start(s).id); err != nil || got != want {
		t.Errorf("it ended with %+v, %v", got, err)
	}
	s = g.spec("true")
	s.Timeout = time.Hour
	if got, err := g.Wait(t.Context(), g.start(s).id); err != nil || got != (proto.ProcessStatus{}) {
		t.Errorf("one in time ended with %+v, %v", got, err)
	}
}

// detached makes a process that goes on without a client.
func detached(s Spec) Spec {
	s.Lifetime = proto.Lifetime_LIFETIME_DETACHED
	return s
}

func TestOutputOfADetachedProcessIsKeptAndBounded(t *testing.T) {
	g := newGuest(t)
	r := g.start(detached(g.spec("sh", "-c", "seq 200000; echo problem >&2; exit 3")))
	if got, err := g.Wait(t.Context(), r.id); err != nil || got.Code != 3 {
		t.Fatalf("it ended with %+v, %v: it must not wait for a reader", got, err)
	}
	out := all(t, r.dial(proto.Stdout))
	if len(out) < keepSize || len(out) > 2*keepSize || !strings.HasSuffix(out, "199999\n200000\n") {
		t.Errorf("%d bytes were kept, the last of them %q", len(out), out[max(0, len(out)-20):])
	}
	if got := all(t, r.dial(proto.Stderr)); got != "problem\n" {
		t.Errorf("stderr %q", got)
	}
	r.status = r.dial(proto.Status)
	if got := r.ended(); got.Code != 3 {
		t.Errorf("status %+v", got)
	}
}

func TestADetachedProcessIsLeftAndFoundAgain(t *testing.T) {
	g := newGuest(t)
	s := detached(g.spec("sh", "-c", "echo ready; while read l; do echo got $l; done"))
	s.Terminal = &Terminal{}
	c := g.open(s)
	c.shows("ready\r\n")
	for range 20 {
		c.types("one\r")
		c.shows("got one\r\n")
		c.types("two\r")
		c.tty.Close()
		c.tty = c.dial(proto.Terminal)
		c.tty.SetReadDeadline(time.Now().Add(20 * time.Second))
		c.lines = bufio.NewReader(c.tty)
		c.types("three\r")
		c.shows("got three\r\n")
	}
	c.types("\x04")
	c.rest()
	if got := c.ended(); got.Code != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestProcessesAreListed(t *testing.T) {
	g := newGuest(t)
	c := g.console("cat")
	c.types("x\r")
	c.shows("x\r\nx\r\n")
	d := detached(g.spec("sh", "-c", "exit 3", strings.Repeat("ü", 100)))
	d.Stdin = false
	g.start(d)
	g.Wait(t.Context(), d.ID)
	got := g.List()
	for i := range got {
		if time.Since(got[i].Started) > time.Minute {
			t.Errorf("%s started at %v", got[i].ID, got[i].Started)
		}
		got[i].Started = time.Time{}
	}
	want := []Info{
		{ID: c.id, Argv: []string{"cat"}, Terminal: true, Attached: true},
		{ID: d.ID, Argv: []string{"sh", "-c", "exit 3", strings.Repeat("ü", 32)}, Lifetime: d.Lifetime, Exit: &proto.ProcessStatus{Code: 3}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
