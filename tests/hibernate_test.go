package tests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// rememberer is a server that has things in memory and a file of its workspace
// open, and tells of both.
const rememberer = `
import asyncio, hashlib, json, os, time
memory = os.urandom(8 << 20)
log = open('/workspace/log', 'a')
n = 0
async def serve(r, w):
    global n
    await r.read()
    n += 1
    log.write('line %d\n' % n)
    log.flush()
    os.fsync(log.fileno())
    w.write(json.dumps({'pid': os.getpid(), 'n': n, 'memory': hashlib.sha256(memory).hexdigest(), 'time': time.time(), 'random': os.urandom(16).hex()}).encode())
    await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, '127.0.0.1', 7000)
    print('up', flush=True)
    await s.serve_forever()
asyncio.run(main())
`

// memory is what it tells.
type memory struct {
	Pid    int     `json:"pid"`
	N      int     `json:"n"`
	Memory string  `json:"memory"`
	Time   float64 `json:"time"`
	Random string  `json:"random"`
}

// recall asks it, over one connection to its port.
func recall(t *testing.T, h *testbed.Host, e api.Endpoint, when string) (m memory) {
	t.Helper()
	c, err := dial(h, e)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	got, err := say(c, "tell")
	if err == nil {
		err = json.Unmarshal([]byte(got), &m)
	}
	if err != nil {
		t.Fatalf("%s: %q (%v)\n%s", when, got, err, aegis(t, h, nil, "why", "web").stdout)
	}
	return m
}

// wantSame checks that it is the same program, asked for the nth time.
func (m memory) wantSame(t *testing.T, first memory, n int, when string) {
	t.Helper()
	if m.Pid != first.Pid || m.Memory != first.Memory || m.N != n {
		t.Errorf("%s: %+v; at first %+v, asked %d times", when, m, first, n)
	}
	if off := time.Since(time.UnixMilli(int64(m.Time * 1000))); off > limit || off < -limit {
		t.Errorf("%s: its clock is wrong by %v", when, off)
	}
}

func hibernate(t *testing.T, h *testbed.Host) {
	t.Helper()
	must(t, h, "", "instance", "hibernate", "web")
	if in := info(t, h); in.Phase != api.PhaseHibernated || in.State != api.StatePaused || in.Machine != "" {
		t.Fatalf("hibernated: %+v", in)
	}
}

func TestAHibernatedInstanceGoesOnWhereItWas(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		folder := h.Folder(t)
		must(t, h, "", "instance", "start", "--name", "web", "--expose", "7000/tcp", "--workspace", folder.There, "--", "python3", "-c", rememberer)
		e := info(t, h).Endpoints[0]
		first := recall(t, h, e, "at first")
		must(t, h, "", "exec", "web", "--", "date", "-s", "@1000000000")
		hibernate(t, h)
		recall(t, h, e, "from disk").wantSame(t, first, 2, "from disk")
		if in := info(t, h); in.Starts != 1 || in.Sleep.Reason != "a connection" {
			t.Errorf("woken: %+v, %+v", in, in.Sleep)
		}
		hibernate(t, h)
		killDaemon(t, h, "aegisd")
		if h.Name == "system" {
			killDaemon(t, h, "aegis-vmmd")
		}
		must(t, h, "", "up")
		recall(t, h, e, "after the daemons were killed").wantSame(t, first, 3, "after the daemons were killed")
		hibernate(t, h)
		upgrade(t, h)
		recall(t, h, e, "after an upgrade").wantSame(t, first, 4, "after an upgrade")
		b, err := os.ReadFile(filepath.Join(folder.Here, "log"))
		if want := "line 1\nline 2\nline 3\nline 4\n"; string(b) != want || err != nil {
			t.Errorf("the file in its workspace has %q (%v)", b, err)
		}
		hibernate(t, h)
		must(t, h, "", "instance", "delete", "web")
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}

// upgrade puts another guest in the place of the one that machines start with,
// and starts the daemons again.
func upgrade(t *testing.T, h *testbed.Host) {
	t.Helper()
	killDaemon(t, h, "aegisd")
	if h.Name == "standalone" {
		cli, lean := withGuest(t)
		if err := os.WriteFile(filepath.Join(lean, "initramfs.cpio"), []byte("of another release"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := (without{h, cli, nil}).run(t, "up"); got.code != 0 {
			t.Fatalf("up: %+v", got)
		}
		return
	}
	for _, name := range []string{"kernel", "initramfs.cpio"} {
		all, err := filepath.Glob(filepath.Join(h.Root, "usr/share/aegisvm/guest/*", name))
		if err != nil || len(all) == 0 {
			t.Fatalf("no guests: %v", err)
		}
		for _, path := range all {
			if err := os.WriteFile(path, []byte("of another release"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	killDaemon(t, h, "aegis-vmmd")
	must(t, h, "", "up")
}

func TestTheLadderOfARealInstance(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		told := follow(t, h)
		must(t, h, "", "instance", "start", "--name", "web", "--idle", "pause=1s,hibernate=1s", "--expose", "7000/tcp", "--", "python3", "-c", shouter)
		told.sleeps(api.EventPaused)
		told.sleeps(api.EventHibernated)
		if why := must(t, h, "", "why", "web"); !strings.Contains(why, "web is hibernated") || !strings.Contains(why, "asleep: nobody used it for 1s") {
			t.Errorf("why: %s", why)
		}
		wantShout(t, h, info(t, h).Endpoints[0], "on disk")
		if ev := told.sleeps(api.EventWoken); !strings.HasPrefix(ev.Message, "a connection (") {
			t.Errorf("woken: %+v", ev)
		}
		told.sleeps(api.EventHibernated)
		if got := must(t, h, "", "exec", "web", "--", "echo", "hello"); got != "hello\n" {
			t.Errorf("an exec said %q", got)
		}
		told.sleeps(api.EventHibernated)
		must(t, h, "", "instance", "stop", "web")
		if in := info(t, h); in.Phase != api.PhaseStopped || in.Starts != 1 {
			t.Errorf("stopped: %+v", in)
		}
	})
}

// After a reboot one connection brings a hibernated instance back as it was.
func TestAHibernatedInstanceOutlivesItsHost(t *testing.T) {
	h := rebooted(t)
	folder := h.Folder(t)
	must(t, h, "", "instance", "start", "--name", "web", "--expose", "7000/tcp", "--workspace", folder.There, "--", "python3", "-c", rememberer)
	e := info(t, h).Endpoints[0]
	first := recall(t, h, e, "at first")
	hibernate(t, h)
	h.PowerCut(t)
	awaitOpen(t, h, e) // a connection as well, that says nothing
	recall(t, h, e, "after a power cut").wantSame(t, first, 3, "after a power cut")
	b, err := os.ReadFile(filepath.Join(folder.Here, "log"))
	if want := "line 1\nline 2\nline 3\n"; string(b) != want || err != nil {
		t.Errorf("the file in its workspace has %q (%v)", b, err)
	}
}
