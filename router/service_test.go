package router_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router"
	"github.com/xfeldman/aegisvm/router/routertest"
)

func open(t testing.TB, c router.Config) *router.Service {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.Log = slog.New(slog.DiscardHandler)
	s, err := router.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func expose(t testing.TB, r router.Router, p router.Port) router.Endpoint {
	t.Helper()
	e, err := r.Expose(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestContract(t *testing.T) {
	routertest.Run(t, func(t *testing.T, g *routertest.Guests) router.Router {
		return open(t, router.Config{Waker: g})
	})
}

// echoAll answers all that it has heard when its client has said all.
func echoAll(c *net.TCPConn) {
	all, err := io.ReadAll(c)
	if err == nil {
		c.Write(all)
	}
}

func address(e router.Endpoint) string { return net.JoinHostPort(e.Bind, strconv.Itoa(e.ActualPort)) }

// loopback is the address of guests whose programs are this machine's.
var loopback = netip.MustParseAddr("127.0.0.1")

// bothWays runs a test with guests that have an address and without.
func bothWays(t *testing.T, test func(*testing.T, *routertest.Guests)) {
	for name, at := range map[string]netip.Addr{"over streams": {}, "directly": loopback} {
		t.Run(name, func(t *testing.T) {
			g := routertest.NewGuests(t)
			g.Address = at
			test(t, g)
			if n := g.Dials(); (n == 0) != at.IsValid() {
				t.Errorf("%d streams were asked for", n)
			}
		})
	}
}

func TestHalfClosesAndBytesPassBothWays(t *testing.T) { bothWays(t, halfCloses) }

func halfCloses(t *testing.T, g *routertest.Guests) {
	s := open(t, router.Config{Waker: g})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	data := make([]byte, 3<<20)
	rand.Read(data)
	c := routertest.Dial(t, e)
	go func() {
		c.Write(data)
		c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, or others (%v)", len(got), len(data), err)
	}
}

func TestAThousandConnectionsAreOneWakeAndAllAreServed(t *testing.T) { bothWays(t, thousand) }

func thousand(t *testing.T, g *routertest.Guests) {
	g.Gate = make(chan struct{})
	s := open(t, router.Config{Waker: g})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	var all sync.WaitGroup
	connected := make(chan struct{}, 1000)
	for i := range 1000 {
		all.Go(func() {
			c, err := net.Dial("tcp", address(e))
			connected <- struct{}{}
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			word := fmt.Sprint(i)
			io.WriteString(c, word)
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != word {
				t.Errorf("connection %d read %q (%v)", i, got, err)
			}
		})
	}
	for range 1000 {
		<-connected
	}
	close(g.Gate)
	all.Wait()
	if n := g.Wakes(); n != 1 {
		t.Errorf("%d wakes", n)
	}
}

func TestTheLeaseIsHeldWithConnectionsAndAMomentLonger(t *testing.T) {
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g, Limits: router.Limits{Linger: 20 * time.Millisecond}})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	one, two := routertest.Dial(t, e), routertest.Dial(t, e)
	g.AwaitUse(t, 2)
	one.Close()
	g.AwaitUse(t, 1)
	if n := g.Leases(); n != 1 {
		t.Errorf("%d leases for two connections", n)
	}
	two.Close()
	g.AwaitUse(t, -1)
	if n, wakes := g.Leases(), g.Wakes(); n != 0 || wakes != 1 {
		t.Errorf("%d leases and %d wakes afterwards", n, wakes)
	}
}

func TestALeaseThatEndsIsTakenAnewWithoutAWake(t *testing.T) {
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	c := routertest.Dial(t, e)
	g.AwaitUse(t, 1)
	g.EndLeases()
	g.AwaitUse(t, -1)
	g.AwaitUse(t, 1) // of the new one
	io.WriteString(c, "still here")
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "still here" {
		t.Errorf("read %q (%v)", got, err)
	}
	if n := g.Wakes(); n != 1 {
		t.Errorf("%d wakes", n)
	}
}

func TestAnInstanceThatSomebodyPausedIsWokenByTheNextConnection(t *testing.T) {
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	routertest.Dial(t, e)
	g.AwaitUse(t, 1)
	g.Tell(true)
	// The lease is asleep when the word has come: then a connection wakes.
	for g.Wakes() < 2 {
		c := routertest.Dial(t, e)
		c.CloseWrite()
		io.ReadAll(c)
	}
}

// wantReset connects to what is to be refused: the reset may come before the
// connection is known to be there.
func wantReset(t *testing.T, e router.Endpoint) {
	t.Helper()
	c, err := net.Dial("tcp", address(e))
	if err == nil {
		defer c.Close()
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that is to be refused gets %v", err)
	}
}

func TestAWakeThatFailsRefusesAllAndIsNotRepeatedAtOnce(t *testing.T) {
	g := routertest.NewGuests(t)
	wakes := make(chan bool, 100)
	g.Refuse = func(_ string, renew bool) error {
		wakes <- renew
		if renew {
			return api.Errorf(api.BadState, "instance inst-1 is failed")
		}
		return api.Errorf(api.Unavailable, "the disk is full")
	}
	s := open(t, router.Config{Waker: g, Limits: router.Limits{Retry: time.Hour}})
	tcp := expose(t, s, routertest.Expose("inst-1", 1, api.ProtocolTCP))
	web := expose(t, s, routertest.Expose("inst-1", 2, api.ProtocolHTTP))
	for range 3 {
		wantReset(t, tcp)
	}
	if first, second := <-wakes, <-wakes; first || !second {
		t.Errorf("the wakes were %v and %v", first, second)
	}
	r, err := http.Post("http://"+address(web), "text/plain", strings.NewReader(strings.Repeat("x", 100_000)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" || !strings.Contains(string(body), "the disk is full") || err != nil {
		t.Errorf("%s %v: %q (%v)", r.Status, r.Header, body, err)
	}
}

func TestNobodyListeningIsABadGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	s := open(t, router.Config{Waker: routertest.NewGuests(t)})
	e := expose(t, s, routertest.Expose("inst-1", port, api.ProtocolHTTP))
	r, err := http.Get("http://" + address(e))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusBadGateway {
		t.Error(r.Status)
	}
}

func TestAPortHasNoMoreConnectionsThanItMay(t *testing.T) {
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g, Limits: router.Limits{Connections: 2}})
	e := expose(t, s, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	one := routertest.Dial(t, e)
	routertest.Dial(t, e)
	g.AwaitUse(t, 2)
	wantReset(t, e)
	one.Close()
	g.AwaitUse(t, 1)
	c := routertest.Dial(t, e)
	c.CloseWrite()
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the next reads %v", err)
	}
}

func TestDatagramsComeBackToWhoSentThem(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var over sync.WaitGroup
	defer over.Wait()
	defer server.Close()
	over.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			server.WriteTo(b[:n], from)
		}
	})
	g := routertest.NewGuests(t)
	s := open(t, router.Config{Waker: g, Limits: router.Limits{FlowIdle: 100 * time.Millisecond, Linger: time.Millisecond}})
	e := expose(t, s, routertest.Expose("inst-1", server.LocalAddr().(*net.UDPAddr).Port, api.ProtocolUDP))
	for i := range 3 {
		c, err := net.Dial("udp", address(e))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sent := bytes.Repeat([]byte{byte(i)}, 1000*(i+1))
		c.Write(sent)
		got := make([]byte, 64<<10)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:n], sent) {
			t.Errorf("%d bytes came back as %d (%v)", len(sent), n, err)
		}
	}
	g.AwaitUse(t, -1) // each flow ends when it is idle
}

// keeper keeps sockets as systemd does.
type keeper struct {
	mu   sync.Mutex
	kept map[string]*os.File
}

func (k *keeper) Keep(name string, f *os.File) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var err error
	k.kept[name], err = dup(f)
	return err
}

// dup copies a descriptor as another process gets it: File.Fd would make the
// socket a blocking one for all.
func dup(f *os.File) (copied *os.File, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	control := raw.Control(func(fd uintptr) {
		var n int
		n, err = syscall.Dup(int(fd))
		copied = os.NewFile(uintptr(n), f.Name())
	})
	return copied, errors.Join(control, err)
}

func (k *keeper) Drop(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.kept[name]; f != nil {
		f.Close()
	}
	delete(k.kept, name)
	return nil
}

// take is what the next process gets.
func (k *keeper) take(t *testing.T) map[string]*os.File {
	all := map[string]*os.File{}
	for name, f := range k.kept {
		var err error
		if all[name], err = dup(f); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func TestKeptPortsRefuseNobodyBetweenTwoRouters(t *testing.T) {
	k, dir := &keeper{kept: map[string]*os.File{}}, t.TempDir()
	g := routertest.NewGuests(t)
	first := open(t, router.Config{Waker: g, Dir: dir, Keeper: k})
	port := routertest.Listen(t, echoAll)
	e := expose(t, first, routertest.Expose("inst-1", port, api.ProtocolTCP))
	udp := expose(t, first, routertest.Expose("inst-1", 53, api.ProtocolUDP))
	first.Close()
	c := routertest.Dial(t, e) // nobody accepts yet
	io.WriteString(c, "early")
	c.CloseWrite()
	k.kept["port.inst-9.1.tcp"] = k.take(t)["port.inst-1.53.udp"] // of a port that is not there
	second := open(t, router.Config{Waker: g, Dir: dir, Keeper: k, Kept: k.take(t)})
	if got, err := io.ReadAll(c); err != nil || string(got) != "early" {
		t.Errorf("read %q (%v)", got, err)
	}
	all, err := second.List(t.Context())
	if diff := cmp.Diff([]router.Endpoint{e, udp}, sorted(all)); diff != "" || err != nil {
		t.Error(err, diff)
	}
	if _, left := k.kept["port.inst-9.1.tcp"]; left {
		t.Error("what no port has is still kept")
	}
	if err := second.Forget(t.Context(), "inst-1"); err != nil {
		t.Fatal(err)
	}
	if len(k.kept) > 0 {
		t.Errorf("kept of closed ports: %v", k.kept)
	}
}

func sorted(all []router.Endpoint) []router.Endpoint {
	slices.SortFunc(all, func(a, b router.Endpoint) int { return strings.Compare(string(a.Protocol), string(b.Protocol)) })
	return all
}

// A port that another program has taken meanwhile is told, tried again, and
// never another.
func TestATakenPortIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	g := routertest.NewGuests(t)
	first := open(t, router.Config{Waker: g, Dir: dir})
	e := expose(t, first, routertest.Expose("inst-1", routertest.Listen(t, echoAll), api.ProtocolTCP))
	first.Close()
	thief, err := net.Listen("tcp", address(e))
	if err != nil {
		t.Fatal(err)
	}
	second := open(t, router.Config{Waker: g, Dir: dir, Limits: router.Limits{Retry: time.Millisecond}})
	changes, err := second.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	<-changes
	all, err := second.List(t.Context())
	if err != nil || len(all) != 1 || all[0].Open || all[0].ActualPort != e.ActualPort || !strings.Contains(all[0].Trouble, "is taken") {
		t.Fatalf("%+v (%v)", all, err)
	}
	thief.Close()
	<-changes
	c := routertest.Dial(t, e)
	c.CloseWrite()
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
}

func TestADamagedTableIsPutAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ports.json")
	if err := os.WriteFile(path, []byte(`{"version":1,"ports":[{"instance":"../x"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, router.Config{Waker: routertest.NewGuests(t), Dir: dir})
	if all, err := s.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("%+v (%v)", all, err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
}

// What cannot be written is not promised.
func TestAFullDiskExposesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, router.Config{Waker: routertest.NewGuests(t), Dir: dir})
	if err := os.Mkdir(filepath.Join(dir, "ports.json.new"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := s.Expose(t.Context(), routertest.Expose("inst-1", 80, api.ProtocolTCP))
	if api.CodeOf(err) != api.Unavailable {
		t.Errorf("exposed: %v", err)
	}
	if all, err := s.List(context.Background()); err != nil || len(all) > 0 {
		t.Errorf("kept: %+v (%v)", all, err)
	}
}
