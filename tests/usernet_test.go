package tests

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd/nettest"
)

// talker has a connection to the internet open, and says on request whether
// that one, or a new one, is answered.
const talker = `
import asyncio
async def connect():
    return await asyncio.wait_for(asyncio.open_connection('203.0.113.10', 443), 5)
async def main():
    kept = await connect()
    async def serve(r, w):
        try:
            up, down = kept if await r.read() == b'kept' else await connect()
            down.write(b'x')
            answer = await asyncio.wait_for(up.read(100), 5)
        except (OSError, asyncio.TimeoutError):
            answer = b''
        w.write(b'answered' if answer else b'dead')
        await w.drain()
        w.close()
    s = await asyncio.start_server(serve, '127.0.0.1', 7000)
    print('up', flush=True)
    await s.serve_forever()
asyncio.run(main())
`

func TestANetworkWithoutRightsLivesWithItsMachine(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	h := withoutRights(t)
	nettest.Open(t, h.NetNS).World()
	up(t, h)
	before := inventory(t, h)
	var st api.Status
	if err := json.Unmarshal([]byte(must(t, h, "", "status", "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	if st.Network != api.NetworkNAT || st.NetworkKind != "user" || !strings.Contains(st.NetworkWhy, "CAP_NET_ADMIN") {
		t.Errorf("status: %+v", st)
	}
	must(t, h, "", "instance", "start", "--name", "web", "--expose", "7000/tcp", "--", "python3", "-c", talker)
	e := info(t, h).Endpoints[0]
	wants := func(when, which, want string) {
		t.Helper()
		c, err := dial(h, e)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if got, err := say(c, which); got != want {
			t.Errorf("%s, a connection that is %s: %q (%v), %q expected", when, which, got, err, want)
		}
	}
	wants("at first", "kept", "answered")
	wants("at first", "new", "answered")
	lease := networkState(t, h, "web")

	must(t, h, "", "instance", "pause", "web")
	wants("after a pause", "kept", "answered")

	killDaemon(t, h, "aegisd")
	up(t, h)
	wants("after a kill of aegisd", "kept", "answered")
	wants("after a kill of aegisd", "new", "answered")

	hibernate(t, h)
	wants("woken from disk", "kept", "dead")
	wants("woken from disk", "new", "answered")
	if now := networkState(t, h, "web"); now.Address != lease.Address || now.Gateway != lease.Gateway {
		t.Errorf("woken from disk: %+v, before %+v", now, lease)
	}

	must(t, h, "", "network", "policy", "web", "--deny-egress")
	wants("denied", "new", "dead")
	if n := packets(networkState(t, h, "web"), "egress"); n == 0 {
		t.Error("what is denied was not counted")
	}
	must(t, h, "", "instance", "delete", "web")
	settle(t, h)
	if after := inventory(t, h); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// packets is what one counter has counted.
func packets(state api.NetworkState, name string) uint64 {
	for _, c := range state.Counters {
		if c.Name == name {
			return c.Packets
		}
	}
	return 0
}
