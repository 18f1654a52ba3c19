// Package dns answers the questions of guests for names, as far as the policy
// of each allows, with what the host's resolvers say, and has the addresses
// pinned before it tells them. It parses what guests and resolvers send and
// passes on neither: questions are asked and answers given anew. It owns no
// address and no rule, and has no rights.
package dns

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/netd"
)

// Names says whose an address is and opens what a name means; netd.Network
// does.
type Names interface {
	Guest(ctx context.Context, addr netip.Addr) (netd.Lease, error)
	Pin(ctx context.Context, machine, name string, addrs []netip.Addr, ttl time.Duration) error
}

// Options are what a Server works with.
type Options struct {
	Names Names
	// Upstreams are the resolvers that are asked now, ADDRESS:PORT, each when
	// the ones before it do not answer.
	Upstreams func() []string
	// Timeout is how long each may take, default 2 s.
	Timeout time.Duration
	// PerGuest is how many questions of one guest are worked on at once,
	// default 32; more are not answered.
	PerGuest int
	Log      *slog.Logger
}

// Server answers guests.
type Server struct {
	Options
	ctx context.Context

	mu   sync.Mutex // guards busy
	busy map[netip.Addr]int
}

// New makes a server, which works until ctx ends.
func New(ctx context.Context, o Options) *Server {
	o.Timeout, o.PerGuest = cmp.Or(o.Timeout, 2*time.Second), cmp.Or(o.PerGuest, 32)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler)).With("component", "dns")
	return &Server{Options: o, ctx: ctx, busy: map[netip.Addr]int{}}
}

// Serve answers on a datagram socket and a listener until ctx ends, and closes
// both. Each asker has eight connections at most.
func Serve(ctx context.Context, o Options, u net.PacketConn, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := New(ctx, o)
	l = &bounded{Listener: l, conns: map[netip.Addr]int{}}
	ended := make(chan error, 2)
	for _, one := range []*dns.Server{{PacketConn: u, Handler: s}, {Listener: l, Handler: s, MaxTCPQueries: 64}} {
		go func() { ended <- one.ActivateAndServe() }() // ends with its socket
	}
	defer context.AfterFunc(ctx, func() { u.Close(); l.Close() })()
	err := <-ended
	cancel()
	<-ended
	if ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	from, err := netip.ParseAddrPort(w.RemoteAddr().String())
	if err != nil || !s.enter(from.Addr()) {
		return
	}
	defer s.leave(from.Addr())
	upstreams := s.Upstreams()
	ctx, cancel := context.WithTimeout(s.ctx, s.Timeout*time.Duration(len(upstreams)+1))
	defer cancel()
	answer := s.answer(ctx, from.Addr().Unmap(), q, upstreams)
	if _, datagram := w.RemoteAddr().(*net.UDPAddr); datagram {
		answer.Truncate(room(q))
	}
	if err := w.WriteMsg(answer); err != nil {
		s.Log.Debug("an answer was not sent", "guest", from.Addr(), "error", err)
	}
}

// room is how large an answer the asker takes.
func room(q *dns.Msg) int {
	const least, most = dns.MinMsgSize, 1232
	if opt := q.IsEdns0(); opt != nil {
		return int(min(max(opt.UDPSize(), least), most))
	}
	return least
}

// enter counts the questions that are worked on.
func (s *Server) enter(guest netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[guest] >= s.PerGuest {
		return false
	}
	s.busy[guest]++
	return true
}

func (s *Server) leave(guest netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[guest]--; s.busy[guest] == 0 {
		delete(s.busy, guest)
	}
}

// answer says what a guest gets.
func (s *Server) answer(ctx context.Context, guest netip.Addr, q *dns.Msg, upstreams []string) *dns.Msg {
	if q.Opcode != dns.OpcodeQuery || len(q.Question) != 1 || q.Question[0].Qclass != dns.ClassINET {
		return refusal(q, dns.RcodeNotImplemented)
	}
	lease, err := s.Names.Guest(ctx, guest)
	switch {
	case api.CodeOf(err) == api.NotFound:
		return refusal(q, dns.RcodeRefused)
	case err != nil:
		s.Log.Warn("nobody says whose an address is", "guest", guest, "error", err)
		return refusal(q, dns.RcodeServerFailure)
	}
	asked := q.Question[0]
	name := strings.ToLower(strings.TrimSuffix(asked.Name, "."))
	switch {
	case !lease.Policy.Resolves(name):
		return blocked(q)
	case asked.Qtype == dns.TypeAAAA: // there is no IPv6: a program must not wait for it
		return refusal(q, dns.RcodeSuccess)
	}
	found, err := s.ask(ctx, upstreams, asked)
	if err != nil {
		s.Log.Debug("nobody answers", "guest", guest, "name", name, "error", err)
		return refusal(q, dns.RcodeServerFailure)
	}
	answer := refusal(q, found.Rcode)
	answer.Answer = forgetful(chain(asked, found.Answer))
	if addrs, ttl := addresses(answer.Answer); len(addrs) > 0 && lease.Policy.HasNames() {
		if err := s.Names.Pin(ctx, lease.Machine, name, addrs, ttl); err != nil {
			s.Log.Warn("a name was not opened", "machine", lease.Machine, "name", name, "error", err)
			return refusal(q, dns.RcodeServerFailure)
		}
	}
	return answer
}

// refusal is an answer without records.
func refusal(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, code)
	m.RecursionAvailable = true
	m.Question = m.Question[:min(len(m.Question), 1)]
	return m
}

// blocked says that there is no such name, and why to who can read it.
func blocked(q *dns.Msg) *dns.Msg {
	m := refusal(q, dns.RcodeNameError)
	if q.IsEdns0() != nil {
		m.SetEdns0(1232, false)
		opt := m.IsEdns0()
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeBlocked, ExtraText: "egress policy"})
	}
	return m
}
