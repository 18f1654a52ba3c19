package user

import (
	"time"

	"github.com/xfeldman/aegisvm/netd"
)

// denialPause is the least time between two denials of one machine that are told.
const denialPause = time.Second

// denials are what a machine was denied and nobody has been told of yet. Its
// machine guards it.
type denials struct {
	packets map[string]uint64
	due     *time.Timer // tells of them; nil where there are none
	last    time.Time   // when some were told
}

// denied notes what a machine was denied, and has it told.
func (m *machine) denied(name string, packets uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := &m.denials
	if m.closed || packets == 0 {
		return
	}
	if d.due == nil {
		d.packets = map[string]uint64{}
		d.due = time.AfterFunc(time.Until(d.last.Add(denialPause)), func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.tellDenials()
		})
	}
	d.packets[name] += packets
}

// tellDenials tells of what there is; the caller holds mu.
func (m *machine) tellDenials() {
	d := &m.denials
	if d.due == nil {
		return
	}
	d.due.Stop()
	d.due, d.last = nil, time.Now()
	m.network.denials.Tell(netd.Denial{Machine: m.given.Machine, Packets: d.packets})
}
