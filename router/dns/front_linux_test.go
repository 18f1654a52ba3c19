package dns_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	miekg "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/router/dns"
)

// keeper keeps copies of descriptors, as systemd does.
type keeper struct {
	mu  sync.Mutex // guards all
	all map[string]*os.File
}

// again is another descriptor for the same; File.Fd would make it block.
func again(f *os.File) (*os.File, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	err = errors.Join(raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }), err)
	return os.NewFile(uintptr(fd), f.Name()), err
}

func (k *keeper) Keep(name string, f *os.File) error {
	f, err := again(f)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[name] = f
	return nil
}

func (k *keeper) Drop(name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.all[name]; f != nil {
		f.Close()
	}
	delete(k.all, name)
	return nil
}

// kept is what the next process is given.
func (k *keeper) kept(t *testing.T) map[string]*os.File {
	t.Helper()
	all := map[string]*os.File{}
	for name, f := range k.all {
		var err error
		all[name], err = again(f)
		must(t, err)
	}
	return all
}

// anyone is a netd that takes everybody for its guest.
type anyone struct{ names }

const gateway = "10.213.0.1"

func (a *anyone) Guest(ctx ctx, _ netip.Addr) (lease, error) {
	return a.names.Guest(ctx, netip.MustParseAddr("127.0.0.1"))
}

// own gives the host an address.
func own(t *testing.T, addr string) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	a, err := netlink.ParseAddr(addr + "/32")
	must(t, err)
	must(t, netlink.AddrAdd(lo, a))
}

func TestTheFrontOutlivesItsProcess(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	k := &keeper{all: map[string]*os.File{}}
	options := dns.Options{Names: &anyone{}, Upstreams: fixed(upstream(t, zone))}
	front := dns.NewFront(dns.FrontConfig{Options: options, Keeper: k})
	addr := netip.MustParseAddr(gateway)
	front.Set([]netip.Addr{addr}) // before the host has the address
	own(t, gateway)
	at := net.JoinHostPort(gateway, "53")
	for _, network := range []string{"udp", "tcp"} {
		if m := askSoon(t, network, at); len(m.Answer) != 2 {
			t.Errorf("%s: %v", network, m)
		}
	}
	for range 3 {
		front.Close()
		// It waits in the socket.
		u, err := net.Dial("udp4", at)
		must(t, err)
		q := new(miekg.Msg)
		q.SetQuestion("a.example.", miekg.TypeA)
		raw, err := q.Pack()
		must(t, err)
		_, err = u.Write(raw)
		must(t, err)
		kept := k.kept(t)
		kept["port.x.80.tcp"] = nil
		ours := dns.TakeKept(kept)
		if len(ours) != 2 || len(kept) != 1 {
			t.Fatalf("kept: %v, others: %v", ours, kept)
		}
		front = dns.NewFront(dns.FrontConfig{Options: options, Keeper: k, Kept: ours})
		must(t, u.SetReadDeadline(time.Now().Add(5*time.Second)))
		if n, err := u.Read(make([]byte, 1500)); err != nil || n < 40 {
			t.Errorf("what was asked meanwhile: %d bytes, %v", n, err)
		}
		u.Close()
		if m := ask(t, "tcp", at, "a.example.", miekg.TypeA); len(m.Answer) != 2 {
			t.Errorf("of kept sockets: %v", m)
		}
	}
	front.Set(nil)
	if len(k.all) != 0 {
		t.Errorf("kept for nobody: %v", k.all)
	}
	if _, err := net.Dial("tcp4", at); err == nil {
		t.Error("it is open without guests")
	}
	front.Set([]netip.Addr{addr})
	if m := askSoon(t, "tcp", at); len(m.Answer) != 2 {
		t.Errorf("opened again: %v", m)
	}
	front.Close()
}

// askSoon asks until somebody listens.
func askSoon(t *testing.T, network, at string) *miekg.Msg {
	t.Helper()
	q := new(miekg.Msg)
	q.SetQuestion("a.example.", miekg.TypeA)
	for until := time.Now().Add(5 * time.Second); ; {
		m, _, err := (&miekg.Client{Net: network, Timeout: 5 * time.Second}).Exchange(q, at)
		switch {
		case err == nil:
			return m
		case !strings.Contains(err.Error(), "refused") || time.Now().After(until):
			t.Fatalf("%s: %v", network, err)
		}
	}
}

func TestWhatIsKeptAndNoSocketIsOpenedAnew(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	own(t, gateway)
	null, err := os.Open("/dev/null")
	must(t, err)
	front := dns.NewFront(dns.FrontConfig{
		Options: dns.Options{Names: &anyone{}, Upstreams: fixed(upstream(t, zone))},
		Kept:    map[string]*os.File{"dns.udp." + gateway: null, "dns.tcp.nonsense": null},
	})
	defer front.Close()
	front.Set([]netip.Addr{netip.MustParseAddr(gateway)})
	if m := askSoon(t, "udp", net.JoinHostPort(gateway, "53")); len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
}

func TestAPortThatSomebodyHasIsOpenedWhenTheyLetGo(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	own(t, gateway)
	at := net.JoinHostPort(gateway, "53")
	u, err := net.ListenPacket("udp4", at)
	must(t, err)
	if err := dns.CanListen(t.Context(), netip.MustParseAddr(gateway)); err != nil {
		t.Errorf("one port is taken: %v", err)
	}
	front := dns.NewFront(dns.FrontConfig{Options: dns.Options{Names: &anyone{}, Upstreams: fixed(upstream(t, zone))}})
	defer front.Close()
	front.Set([]netip.Addr{netip.MustParseAddr(gateway)})
	u.Close()
	if m := askSoon(t, "tcp", at); len(m.Answer) != 2 {
		t.Errorf("%v", m)
	}
}
