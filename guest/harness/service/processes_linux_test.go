package service

import (
	"io"
	"math"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// launch starts a program of a kind.
func (h *host) launch(id string, change func(*proto.StartRequest), argv ...string) {
	h.Helper()
	r := &proto.StartRequest{
		Id: id, Argv: argv, Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/",
		Stdin: proto.Stdio_STDIO_STREAM, Stdout: proto.Stdio_STDIO_STREAM, Stderr: proto.Stdio_STDIO_STREAM,
	}
	change(r)
	if _, err := h.control.Start(h.Context(), r); err != nil {
		h.Fatal(err)
	}
}

func ofClient(r *proto.StartRequest) { r.Lifetime = proto.Lifetime_LIFETIME_CLIENT }

func onTerminal(r *proto.StartRequest) { r.Terminal = &proto.Tty{Rows: 24, Cols: 80} }

// hears reads text from a stream.
func (h *host) hears(from io.Reader, text string) {
	h.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(from, b); err != nil || string(b) != text {
		h.Fatalf("heard %q, %v, want %q", b[:n], err, text)
	}
}

func TestAProcessEndsWithItsClientAndNotWithTheLink(t *testing.T) {
	g := newGuest(t)
	h := g.attach()
	h.identify()
	h.launch("p", ofClient, "cat")
	in, out := h.stream(proto.Stdin, "p"), h.stream(proto.Stdout, "p")
	h.stream(proto.Status, "p")
	io.WriteString(in, "a")
	h.hears(out, "a")
	h.session.Close() // as a restore does
	h = g.attach()
	in, out = h.stream(proto.Stdin, "p"), h.stream(proto.Stdout, "p")
	st := h.stream(proto.Status, "p")
	io.WriteString(in, "b")
	h.hears(out, "b")
	st.Close()
	end, err := h.control.Wait(t.Context(), &proto.WaitRequest{Id: "p"})
	if err != nil || end.GetSignal() != 1 {
		t.Errorf("without its client: %v, %v", end, err)
	}
}

func TestATerminalOverALink(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	h.launch("p", onTerminal, "sh", "-c", `trap 'stty size' WINCH; stty size; while :; do read l; test "$l" = q && exit 3; done`)
	tty, st := h.stream(proto.Terminal, "p"), h.stream(proto.Status, "p")
	h.hears(tty, "24 80\r\n")
	if _, err := h.control.Resize(t.Context(), &proto.ResizeRequest{Id: "p", Rows: 60, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	h.hears(tty, "60 200\r\n")
	r, err := h.control.List(t.Context(), &proto.Empty{})
	if err != nil || len(r.GetProcesses()) != 1 {
		t.Fatalf("list: %v, %v", r, err)
	}
	if p := r.GetProcesses()[0]; p.GetId() != "p" || !p.GetTerminal() || !p.GetAttached() || p.GetExit() != nil || p.GetArgv()[0] != "sh" {
		t.Errorf("it is listed as %v", p)
	}
	io.WriteString(tty, "q\r")
	if rest, err := io.ReadAll(tty); string(rest) != "q\r\n" || err != nil {
		t.Errorf("then came %q, %v", rest, err)
	}
	if s, err := proto.ReadStatus(st); err != nil || s.Code != 3 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestAUserThatGoesHangsTheTerminalUpOverALink(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	h.launch("p", onTerminal, "sh", "-c", "echo ready; exec sleep 1000")
	tty := h.stream(proto.Terminal, "p")
	h.hears(tty, "ready\r\n")
	tty.Close()
	end, err := h.control.Wait(t.Context(), &proto.WaitRequest{Id: "p"})
	if err != nil || end.GetSignal() != 1 {
		t.Errorf("it ended with %v, %v", end, err)
	}
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	h := newGuest(t).attach()
	h.identify()
	for name, change := range map[string]func(*proto.StartRequest){
		"a lifetime of another release": func(r *proto.StartRequest) { r.Lifetime = 99 },
		"a timeout beyond time":         func(r *proto.StartRequest) { r.TimeoutMs = math.MaxUint64 },
		"a terminal beyond size":        func(r *proto.StartRequest) { r.Terminal = &proto.Tty{Rows: 65536} },
	} {
		r := &proto.StartRequest{Id: "p", Argv: []string{"true"}}
		change(r)
		_, err := h.control.Start(t.Context(), r)
		wants(t, name, err, codes.InvalidArgument)
	}
	h.launch("p", func(*proto.StartRequest) {}, "cat")
	_, err := h.control.Resize(t.Context(), &proto.ResizeRequest{Id: "p", Rows: 1, Cols: 1})
	wants(t, "resizing no terminal", err, codes.FailedPrecondition)
	_, err = h.control.Resize(t.Context(), &proto.ResizeRequest{Id: "p", Rows: 65536})
	wants(t, "a size beyond size", err, codes.InvalidArgument)
	_, err = h.control.Resize(t.Context(), &proto.ResizeRequest{Id: "q"})
	wants(t, "resizing nobody", err, codes.NotFound)
	h.control.Signal(t.Context(), &proto.SignalRequest{Id: "p", Signal: 9})
}
