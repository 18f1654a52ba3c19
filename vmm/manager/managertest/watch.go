package managertest

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/containerd/ttrpc"

	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
)

func watch(t *testing.T, w World) {
	ctx := t.Context()
	_, err := w.Start(ctx, Spec("one"))
	must(t, err)
	changes, err := w.Watch(ctx)
	must(t, err)
	expect := func(id string, states ...vmm.State) {
		t.Helper()
		for _, s := range states {
			if i := <-changes; i.ID != id || i.State != s {
				t.Fatalf("got %s %s, %s %s expected", i.ID, i.State, id, s)
			}
		}
	}
	expect("one", vmm.StateRunning)
	_, err = w.Start(ctx, Spec("two"))
	must(t, err)
	expect("two", vmm.StateStarting, vmm.StateRunning)
	must(t, w.Pause(ctx, "one"))
	must(t, w.Resume(ctx, "one"))
	must(t, w.Stop(ctx, "one"))
	expect("one", vmm.StatePaused, vmm.StateRunning, vmm.StateEnded)
}

func slowWatch(t *testing.T, w World) {
	ctx := t.Context()
	changes, err := w.Watch(ctx)
	must(t, err)
	const n = 20
	for i := range n {
		id := fmt.Sprintf("m%d", i)
		_, err := w.Start(ctx, Spec(id))
		must(t, err)
		must(t, w.Stop(ctx, id))
		must(t, w.Remove(ctx, id))
	}
	for ended := 0; ended < n; {
		i, ok := <-changes
		if !ok {
			t.Fatalf("the watch ended after %d of %d ends", ended, n)
		}
		if i.State == vmm.StateEnded {
			ended++
		}
	}
}

// dial connects to a port of a machine.
func (w World) dial(t *testing.T, id string, port uint32) *net.UnixConn {
	t.Helper()
	f, err := w.Connect(t.Context(), id, port)
	must(t, err)
	defer f.Close()
	c, err := net.FileConn(f)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

// streams runs cat in the guest, over the descriptors that Connect gives.
func streams(t *testing.T, w World) {
	ctx := t.Context()
	data := make([]byte, 1<<20)
	rand.Read(data)
	_, err := w.Start(ctx, Spec("one"))
	must(t, err)
	client := ttrpc.NewClient(w.dial(t, "one", proto.PortControl))
	defer client.Close()
	guest := proto.NewGuestClient(client)
	_, err = guest.Hello(ctx, &proto.HelloRequest{Version: proto.Version})
	must(t, err)
	_, err = guest.SetIdentity(ctx, &proto.Identity{Hostname: "one", Entropy: data[:64], UnixNano: time.Now().UnixNano()})
	must(t, err)
	stream := func(k proto.Kind) *net.UnixConn {
		c := w.dial(t, "one", proto.PortStream)
		must(t, proto.WritePrelude(c, proto.Prelude{Kind: k, Process: "p"}))
		return c
	}
	_, err = guest.Start(ctx, &proto.StartRequest{Id: "p", Argv: []string{"cat"}, Stdin: proto.Stdio_STDIO_STREAM, Stdout: proto.Stdio_STDIO_STREAM})
	must(t, err)
	stdin, stdout, status := stream(proto.Stdin), stream(proto.Stdout), stream(proto.Status)
	go func() {
		stdin.Write(data)
		stdin.CloseWrite()
	}()
	got, err := io.ReadAll(stdout)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, or others", len(got), len(data))
	}
	s, err := proto.ReadStatus(status)
	must(t, err)
	if s != (proto.ProcessStatus{}) {
		t.Errorf("status %+v", s)
	}
	must(t, w.Stop(ctx, "one"))
	if n, err := stdin.Read(make([]byte, 1)); err != io.EOF && !os.IsTimeout(err) && n != 0 {
		t.Errorf("a stream of a machine that is gone reads %d bytes (%v)", n, err)
	}
}
