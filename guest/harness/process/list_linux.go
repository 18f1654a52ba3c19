package process

import (
	"strings"
	"time"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Info is what there is to tell of a process.
type Info struct {
	ID              string
	Argv            []string // cut to 1 KiB
	Started         time.Time
	Terminal, Stdin bool
	Lifetime        proto.Lifetime
	// Attached tells whether somebody has dialled its output.
	Attached bool
	// Exit is nil while it runs.
	Exit *proto.ProcessStatus
}

// List tells the processes that run, and those whose end the host has not
// heard of, in the order in which they started.
func (t *Table) List() []Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Info, 0, len(t.ids))
	for _, id := range t.ids {
		all = append(all, t.processes[id].info())
	}
	return all
}

// running counts the processes that have not ended; t.mu is held.
func (t *Table) running() int {
	n := 0
	for _, p := range t.processes {
		if !p.ended() {
			n++
		}
	}
	return n
}

func (p *process) info() Info {
	i := Info{
		ID: p.id, Argv: p.argv, Started: p.begun, Lifetime: p.lifetime,
		Terminal: p.streams[proto.Terminal] != nil, Stdin: p.streams[proto.Stdin] != nil,
	}
	for _, s := range p.streams {
		i.Attached = i.Attached || s != nil && s.kind != proto.Stdin && s.dialled()
	}
	if p.ended() {
		status := p.status
		i.Exit = &status
	}
	return i
}

func (s *stream) dialled() bool {
	if s.copies != nil {
		return s.copies.dialled()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, kept := s.conn.(keeper)
	return s.conn != nil && !kept
}

// cut keeps of argv what people need to know it again.
func cut(argv []string) []string {
	const most, each = 16, 64
	var short []string
	for _, a := range argv[:min(len(argv), most)] {
		short = append(short, strings.ToValidUTF8(a[:min(len(a), each)], ""))
	}
	return short
}
