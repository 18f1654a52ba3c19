package user

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/policy"
	"github.com/xfeldman/aegisvm/netd/user/ask"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// What one machine may ask for: so many questions a second in the long run,
// and so many that are worked on at once. Who asks for more waits.
const (
	perSecond = 2000
	burst     = 1000
	atOnce    = 256
)

// line is a connection to the stack of a machine.
type line struct {
	machine *machine
	conn    *net.UnixConn
	ctx     context.Context // ends with the connection
	sending sync.Mutex

	mu      sync.Mutex // guards the fields below
	last    uint64
	waiting map[uint64]chan []netd.Counter
}

// Serve answers what the stack of a machine asks for until the connection ends,
// and closes it. The stack's former connection, if there is one, is given up.
func (n *Network) Serve(id string, conn *net.UnixConn) {
	defer conn.Close()
	m, err := n.find(id)
	if err != nil {
		n.log.Warn("the stack of a machine without a network asks", "machine", id)
		return
	}
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	l := &line{machine: m, conn: conn, ctx: ctx, waiting: map[uint64]chan []netd.Counter{}}
	if !m.connect(l) {
		return
	}
	defer m.disconnect(l)
	l.recheck() // the policy may have changed while nobody was there
	l.answer()
}

// connect makes a line the machine's only one.
func (m *machine) connect(l *line) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	if m.stack != nil {
		m.stack.conn.Close()
	}
	m.stack = l
	return true
}

func (m *machine) disconnect(l *line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stack == l {
		m.stack = nil
	}
}

// answer reads questions until the connection ends or says what is none.
func (l *line) answer() {
	var all sync.WaitGroup
	defer all.Wait()
	defer l.conn.Close()
	pace := rate.NewLimiter(perSecond, burst)
	turns := make(chan struct{}, atOnce)
	for {
		var q ask.Question
		files, err := packet.Receive(l.conn, &q)
		packet.CloseAll(files)
		if err != nil || pace.Wait(l.ctx) != nil {
			return
		}
		switch q.Op {
		case ask.Count:
			l.counted(q)
			continue
		case ask.Denied:
			l.denied(q)
			continue
		}
		if !q.To.Addr().Is4() || q.Op != ask.Open && q.Op != ask.Check {
			l.machine.network.log.Warn("a stack says what is no question", "machine", l.machine.lease().Machine, "op", q.Op)
			return
		}
		select {
		case turns <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		all.Go(func() {
			defer func() { <-turns }()
			l.one(q)
		})
	}
}

// one answers one question.
func (l *line) one(q ask.Question) {
	a := ask.Answer{ID: q.ID, Op: q.Op}
	m, k := l.machine, policy.Packet{Protocol: q.Protocol, To: q.To.Addr(), Port: q.To.Port()}
	m.mu.Lock()
	verdict := m.decide(k, q.Op == ask.Check)
	m.mu.Unlock()
	if verdict == policy.Allowed && q.Drop {
		verdict = policy.DropEgress // the policy lets it pass, this network cannot
	}
	if a.OK = verdict == policy.Allowed; !a.OK || q.Op == ask.Check {
		if !a.OK {
			m.count(verdict, q.Size)
		}
		l.send(a)
		return
	}
	opened := m.open(l.ctx, k, q)
	m.count(opened.count, q.Size)
	a.OK, a.Refused = opened.file != nil, opened.refused
	if opened.file == nil {
		l.send(a)
		return
	}
	defer opened.file.Close()
	l.sending.Lock()
	defer l.sending.Unlock()
	if packet.Send(l.conn, a, opened.file) != nil {
		l.conn.Close()
	}
}

func (l *line) send(a ask.Answer) {
	l.sending.Lock()
	defer l.sending.Unlock()
	if packet.Send(l.conn, a) != nil {
		l.conn.Close()
	}
}

// recheck has the stack ask for all its connections again. One that is opened
// by an answer that is under way is asked for again as well: the stack sees
// that the policy has changed since its question.
func (l *line) recheck() { l.send(ask.Answer{Op: ask.Recheck}) }

// countLimit is how long a stack may take to tell its counters.
const countLimit = 2 * time.Second

// counters are those of the stack; none where it does not answer in time.
func (l *line) counters(ctx context.Context) []netd.Counter {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	w := make(chan []netd.Counter, 1)
	l.mu.Lock()
	l.last++
	id := l.last
	l.waiting[id] = w
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.waiting, id)
		l.mu.Unlock()
	}()
	l.send(ask.Answer{ID: id, Op: ask.Count})
	select {
	case all := <-w:
		return all
	case <-l.ctx.Done():
	case <-ctx.Done():
	}
	return nil
}

// count counts a packet, and has it told that it was dropped.
func (m *machine) count(name string, bytes int) {
	m.counters.add(name, bytes)
	if name != policy.Allowed {
		m.denied(name, 1)
	}
}

// denied takes what the stack has dropped by itself, by names that it may use.
func (l *line) denied(q ask.Question) {
	for _, c := range q.Counters[:min(len(q.Counters), len(policy.WireCounters)+1)] {
		if c.Name == policy.DropFlood || slices.Contains(policy.WireCounters, c.Name) {
			l.machine.denied(c.Name, c.Packets)
		}
	}
}

func (l *line) counted(q ask.Question) {
	l.mu.Lock()
	w := l.waiting[q.ID]
	delete(l.waiting, q.ID)
	l.mu.Unlock()
	if w != nil {
		w <- q.Counters
	}
}
