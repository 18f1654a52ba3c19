package stack

import (
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/netd"
	"github.com/xfeldman/aegisvm/netd/user/ask"
)

// denialPause is the least time between two words of denials.
const denialPause = time.Second

// denials are what has been said of the counters.
type denials struct {
	mu   sync.Mutex // guards the fields below
	said [len(wire) + 1]uint64
	due  *time.Timer // says the rest; nil where nothing is left to say
	last time.Time
}

// deny counts what goes no further, and has it told.
func (s *Stack) deny(name string, bytes int) {
	s.counters.add(name, bytes)
	d := &s.denials
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due == nil && s.ctx.Err() == nil {
		d.due = time.AfterFunc(time.Until(d.last.Add(denialPause)), s.tellDenials)
	}
}

// tellDenials says what was counted since the last time. Nobody may be there to
// hear it: who comes later has the counters.
func (s *Stack) tellDenials() {
	d := &s.denials
	d.mu.Lock()
	d.due, d.last = nil, time.Now()
	var news []netd.Counter
	for i, c := range s.counters.list() {
		if more := c.Packets - d.said[i]; more > 0 {
			news = append(news, netd.Counter{Name: c.Name, Packets: more})
		}
		d.said[i] = c.Packets
	}
	d.mu.Unlock()
	s.client.Say(ask.Question{Op: ask.Denied, Counters: news})
}
