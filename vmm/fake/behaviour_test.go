package fake_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/containerd/ttrpc"
	"github.com/google/go-cmp/cmp"
	"github.com/xfeldman/aegisvm/guest/proto"
	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/fake"
	"github.com/xfeldman/aegisvm/vmm/fake/program"
)

func started(t *testing.T, d *fake.Driver) vmm.Machine {
	t.Helper()
	m, err := d.Start(t.Context(), plan(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop(context.Background()) })
	return m
}

func isReady(m vmm.Machine) bool {
	select {
	case <-m.Ready():
		return true
	default:
		return false
	}
}

func TestABootWaitsForTheTest(t *testing.T) {
	d, boot := &fake.Driver{}, make(chan struct{})
	d.Behave(fake.Behaviour{Boot: boot})
	m := started(t, d)
	if isReady(m) {
		t.Fatal("ready before the test said so")
	}
	if _, err := m.Connect(t.Context(), proto.PortControl); err == nil {
		t.Error("connect before ready worked")
	}
	close(boot)
	<-m.Ready()
}

func TestABootThatWaitsEndsWithItsMachine(t *testing.T) {
	d := &fake.Driver{}
	d.Behave(fake.Behaviour{Boot: make(chan struct{})})
	m := started(t, d)
	if err := m.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := m.Exit(); e.Reason != vmm.ReasonStopped || isReady(m) {
		t.Errorf("exit %+v, ready %v", e, isReady(m))
	}
}

func TestMisfortunesEndTheMachineInTheirWay(t *testing.T) {
	for name, c := range map[string]struct {
		behaviour fake.Behaviour
		fate      func(*fake.Machine)
		want      vmm.Exit
	}{
		"dies at boot":    {fake.Behaviour{DieAtBoot: "no"}, nil, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "no"}},
		"panics at boot":  {fake.Behaviour{PanicAtBoot: "ah"}, nil, vmm.Exit{Reason: vmm.ReasonPanic, Detail: "Kernel panic - not syncing: ah"}},
		"dies later":      {fake.Behaviour{}, func(m *fake.Machine) { m.Crash("gone") }, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "gone"}},
		"panics later":    {fake.Behaviour{}, func(m *fake.Machine) { m.Panic("oh") }, vmm.Exit{Reason: vmm.ReasonPanic, Detail: "Kernel panic - not syncing: oh"}},
		"only first wins": {fake.Behaviour{DieAtBoot: "1"}, func(m *fake.Machine) { m.Panic("2") }, vmm.Exit{Reason: vmm.ReasonCrashed, Detail: "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			d := &fake.Driver{}
			d.Behave(c.behaviour)
			p := plan(t)
			if _, err := d.Start(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			m := d.Machine(p.ID)
			if c.fate != nil {
				c.fate(m)
			}
			<-m.Done()
			got := m.Exit()
			got.Time = c.want.Time
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestARefusedPauseLeavesTheMachineRunning(t *testing.T) {
	d, refusal := &fake.Driver{}, errors.New("not now")
	d.Behave(fake.Behaviour{RefusePause: refusal})
	m := started(t, d)
	if err := m.Pause(t.Context()); !errors.Is(err, refusal) {
		t.Errorf("pause: %v", err)
	}
	if _, err := m.Connect(t.Context(), proto.PortControl); err != nil {
		t.Errorf("connect after a refused pause: %v", err)
	}
}

func TestAStartCanFail(t *testing.T) {
	d, cause := &fake.Driver{}, errors.New("no memory")
	d.Behave(fake.Behaviour{FailStart: cause})
	if _, err := d.Start(t.Context(), plan(t)); !errors.Is(err, cause) {
		t.Errorf("start: %v", err)
	}
	d.Behave(fake.Behaviour{})
	started(t, d)
}

func TestTestsBringTheirOwnPrograms(t *testing.T) {
	d := &fake.Driver{}
	d.Program("shout", func(_ context.Context, p *program.Proc) int {
		b, err := io.ReadAll(p.Stdin)
		p.Stdout.Write(bytes.ToUpper(b))
		if err != nil {
			return 1
		}
		return 3
	})
	m := started(t, d)
	control, err := m.Connect(t.Context(), proto.PortControl)
	if err != nil {
		t.Fatal(err)
	}
	client := ttrpc.NewClient(control)
	defer client.Close()
	g := proto.NewGuestClient(client)
	if _, err := g.Hello(t.Context(), &proto.HelloRequest{Version: proto.Version}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.SetIdentity(t.Context(), &proto.Identity{Hostname: "h", Entropy: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Start(t.Context(), &proto.StartRequest{
		Id: "p", Argv: []string{"shout"}, Stdin: proto.Stdio_STDIO_STREAM, Stdout: proto.Stdio_STDIO_STREAM,
	}); err != nil {
		t.Fatal(err)
	}
	stream := func(k proto.Kind) vmm.Conn {
		c, err := m.Connect(t.Context(), proto.PortStream)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := proto.WritePrelude(c, proto.Prelude{Kind: k, Process: "p"}); err != nil {
			t.Fatal(err)
		}
		return c
	}
	in := stream(proto.Stdin)
	io.WriteString(in, "hello")
	in.CloseWrite()
	if out, err := io.ReadAll(stream(proto.Stdout)); string(out) != "HELLO" || err != nil {
		t.Errorf("stdout %q, %v", out, err)
	}
	if s, err := proto.ReadStatus(stream(proto.Status)); s.Code != 3 || err != nil {
		t.Errorf("status %+v, %v", s, err)
	}
	if d.Machine("no-such") != nil {
		t.Error("a machine that never was")
	}
}
