package cloudhypervisor

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/monitor"
)

// answering answers one dial on a socket as Cloud Hypervisor's vsock does.
func answering(t *testing.T, answer func(asked string, c *net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "v.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err == nil {
			answer(string(b[:n]), c)
		}
	}()
	return path
}

func TestDialLeavesTheGuestsBytes(t *testing.T) {
	path := answering(t, func(asked string, c *net.UnixConn) { io.WriteString(c, "OK 1073741824\n"+asked) })
	c, err := dial(t.Context(), path, 1024)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); string(b) != "CONNECT 1024\n" || err != nil {
		t.Errorf("after the answer: %q, %v", b, err)
	}
}

func TestDialTellsWhatWentWrong(t *testing.T) {
	for name, c := range map[string]struct {
		answer, want string
	}{
		"hangs up":         {"", "refused by the guest"},
		"half an answer":   {"OK 107", "refused by the guest"},
		"something else":   {"NO\n", `answer "NO"`},
		"an endless line":  {strings.Repeat("x", 100), "refused by the guest"},
		"a line of itself": {"\n", `answer ""`},
	} {
		t.Run(name, func(t *testing.T) {
			path := answering(t, func(_ string, conn *net.UnixConn) { io.WriteString(conn, c.answer) })
			if _, err := dial(t.Context(), path, 1024); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	path := answering(t, func(string, *net.UnixConn) { <-hold })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx, path, 1024); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestARestoredGuestIsDialledOnFreshPorts plays a muxer that counts.
func TestARestoredGuestIsDialledOnFreshPorts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 100)
			n, _ := c.Read(b)
			asked <- string(b[:n])
			if string(b[:n]) != "CONNECT 1\n" {
				io.WriteString(c, "OK 1\n")
			}
			c.Close()
		}
	}()
	m := newMuxer(path, []stream{{firstPort, 1024}, {firstPort + 1, 1024}, {firstPort + 3, 1025}})
	for _, c := range []struct {
		port uint32
		want []string
	}{
		{1024, []string{"1", "1", "1024"}}, {1025, []string{"1", "1025"}}, {1024, []string{"1024"}}, {1025, []string{"1025"}},
	} {
		conn, err := m.dial(t.Context(), c.port)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		for _, want := range c.want {
			if got := <-asked; got != "CONNECT "+want+"\n" {
				t.Errorf("port %d: asked %q, want port %s", c.port, got, want)
			}
		}
	}
}

const events = `{"timestamp":{"secs":0,"nanos":1},"source":"vmm","event":"starting","properties":null}

{
  "timestamp": {"secs": 0, "nanos": 2},
  "source": "vm",
  "event": "booted",
  "properties": null
}
`

func event(source, name string) string {
	return `{"source": "` + source + `", "event": "` + name + `", "properties": {"a": [1]}}` + "\n\n"
}

func TestVerdictFollowsTheEvents(t *testing.T) {
	const panicked = "Kernel panic - not syncing: x\n"
	for name, c := range map[string]struct {
		events, console, death string
		stopped                bool
		want                   vmm.Reason
	}{
		"poweroff":                   {events + event("vm", "shutdown") + event("vm", "deleted"), "", "", false, vmm.ReasonPoweroff},
		"reboot, then killed":        {events + event("vm", "rebooting"), "", "killed", false, vmm.ReasonPoweroff},
		"reset before it was ready":  {events + event("vm", "rebooting"), "", "killed", false, vmm.ReasonPanic},
		"panic with words":           {events + event("vm", "rebooting"), panicked, "killed", false, vmm.ReasonPanic},
		"panic by pvpanic":           {events + event("guest", "panic") + event("vm", "rebooting"), "", "killed", false, vmm.ReasonPanic},
		"stopped":                    {events, panicked, "killed", true, vmm.ReasonStopped},
		"killed by another":          {events, "", "killed", false, vmm.ReasonCrashed},
		"bad configuration":          {"", "", "exited with status 1", false, vmm.ReasonCrashed},
		"gone in order without boot": {event("vm", "shutdown"), "", "", false, vmm.ReasonCrashed},
		"noise among the events":     {events + "noise" + event("vm", "shutdown"), "", "", false, vmm.ReasonCrashed},
	} {
		t.Run(name, func(t *testing.T) {
			var v verdict
			left := 0
			v.follow(strings.NewReader(c.events), func() { left++ })
			if want := strings.Count(c.events, "rebooting"); left != want {
				t.Errorf("left %d times, want %d", left, want)
			}
			if c.stopped {
				v.stop()
			}
			console := monitor.NewConsole(nil)
			console.Copy(strings.NewReader(c.console))
			if e := v.exit(c.death, console, name != "reset before it was ready"); e.Reason != c.want || e.Time.IsZero() {
				t.Errorf("exit %+v, want %s", e, c.want)
			}
		})
	}
}

func TestARestoreIsToldByItsEvent(t *testing.T) {
	v := verdict{restored: make(chan struct{})}
	v.follow(strings.NewReader(event("vm", "restoring")+event("vm", "restored")+event("vm", "shutdown")), func() {})
	select {
	case <-v.restored:
	default:
		t.Error("the event is not told")
	}
	console := monitor.NewConsole(nil)
	console.Copy(strings.NewReader(""))
	if e := v.exit("", console, true); e.Reason != vmm.ReasonPoweroff {
		t.Errorf("exit %+v", e)
	}
}

func TestVersionIsRead(t *testing.T) {
	for out, want := range map[string]int{
		"cloud-hypervisor v53.0.0\nMigration Protocol Versions: 0\n": 53,
		"cloud-hypervisor v101\n":                                    101,
		"cloud-hypervisor dev":                                       0,
		"":                                                           0,
	} {
		if _, got := parseVersion(out); got != want {
			t.Errorf("%q: major %d, want %d", out, got, want)
		}
	}
}

// wired is a machine with two disks and a network device.
func wired() wiring {
	f := func() *os.File { return new(os.File) }
	return wiring{
		kernel: f(), initramfs: f(), events: f(), memory: f(), api: f(),
		console: "/d/console.pipe", vsock: "/d/v.sock", saved: "/d/saved", landlock: true,
		disks: []vmm.Disk{{Role: vmm.RoleImage, ReadOnly: true, File: f()}, {Role: vmm.RoleOwn, File: f()}},
		nic:   f(),
	}
}

func TestCommandLineNamesTheDescriptorsOfTheChild(t *testing.T) {
	w := wired()
	at, files := w.inherit()
	got := strings.Join(commandLine(vmm.Plan{ID: "m", MemoryMiB: 512, VCPUs: 2}, w, at), " ")
	for _, want := range []string{
		"--kernel /proc/self/fd/3 --initramfs /proc/self/fd/4 ", "--cpus boot=2 --memory size=0 ",
		"--memory-zone id=memory,size=512M,file=/proc/self/fd/5,shared=on ",
		"--api-socket fd=6 --event-monitor fd=7 ", " --landlock --landlock-rules path=/d/saved,access=rw ",
		"--disk path=/proc/self/fd/8,image_type=raw,serial=image,id=image,readonly=on,sparse=off ",
		"--disk path=/proc/self/fd/9,image_type=raw,serial=own,id=own",
		" --net fd=10,mac=02:ae:91:50:00:02,id=net ",
	} {
		if !strings.Contains(got+" ", want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if len(files) != 8 {
		t.Errorf("%d files are inherited, want 8", len(files))
	}
	got = strings.Join(commandLine(vmm.Plan{ID: "m", Restore: &vmm.Snapshot{}}, w, at), " ")
	const want = "--api-socket fd=6 --event-monitor fd=7 --seccomp true --landlock --restore source_url=file:///d/saved,net_fds=[net@[10]]"
	if got != want {
		t.Errorf("a restore has %q, want %q", got, want)
	}
}
