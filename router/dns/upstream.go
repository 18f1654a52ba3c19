package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ask asks the resolvers, one after the other.
func (s *Server) ask(ctx context.Context, upstreams []string, q dns.Question) (*dns.Msg, error) {
	err := errors.New("this host names no resolver")
	for _, upstream := range upstreams {
		var answer *dns.Msg
		if answer, err = s.askOne(ctx, upstream, q); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func (s *Server) askOne(ctx context.Context, upstream string, q dns.Question) (*dns.Msg, error) {
	ask := new(dns.Msg)
	ask.SetQuestion(q.Name, q.Qtype)
	ask.SetEdns0(1232, false)
	for _, network := range []string{"udp", "tcp"} {
		c := &dns.Client{Net: network, Timeout: s.Timeout, UDPSize: 1232}
		answer, _, err := c.ExchangeContext(ctx, ask, upstream)
		switch {
		case err != nil:
			return nil, err
		case len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, q.Name) || answer.Question[0].Qtype != q.Qtype:
			return nil, fmt.Errorf("%s answers something else", upstream)
		case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError:
			return nil, fmt.Errorf("%s says %s", upstream, dns.RcodeToString[answer.Rcode])
		case !answer.Truncated:
			return answer, nil
		}
	}
	return nil, fmt.Errorf("%s has no room for its answer", upstream)
}

// maxChain is how many names may lead from one to the next.
const maxChain = 16

// chain are the records that answer a question: those of the name, and of the
// names that it is another one for. Whatever else an answer holds is not told.
func chain(q dns.Question, all []dns.RR) (out []dns.RR) {
	name := q.Name
	for range maxChain {
		next := ""
		for _, rr := range all {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
				continue
			}
			alias, is := rr.(*dns.CNAME)
			if is && q.Qtype != dns.TypeCNAME {
				next = alias.Target
			}
			if is || h.Rrtype == q.Qtype {
				out = append(out, rr)
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	return out
}

// maxTTL is how long a guest may keep an answer, in seconds: what was opened for
// it is open for as long at least.
const maxTTL = 3600

func forgetful(all []dns.RR) []dns.RR {
	for _, rr := range all {
		rr.Header().Ttl = min(rr.Header().Ttl, maxTTL)
	}
	return all
}

// addresses are those in records, and how long they hold.
func addresses(all []dns.RR) (addrs []netip.Addr, ttl time.Duration) {
	for _, rr := range all {
		lives := time.Duration(rr.Header().Ttl) * time.Second
		if a, ok := rr.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
				addrs = append(addrs, addr)
			}
		}
		if ttl == 0 || lives < ttl {
			ttl = lives
		}
	}
	return addrs, ttl
}
