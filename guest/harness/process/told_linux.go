package process

import (
	"fmt"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// maxTold is how many ends are kept of processes that are dropped.
const maxTold = 1024

// told are the ends of processes of which nothing else is left: their client
// has heard them, while the host's daemon may have been away and asks later.
type told struct {
	ends map[string]proto.ProcessStatus
	ids  []string // the oldest first
}

func (t *told) note(id string, s proto.ProcessStatus) {
	if t.ends == nil {
		t.ends = map[string]proto.ProcessStatus{}
	}
	if _, known := t.ends[id]; !known {
		t.ids = append(t.ids, id)
	}
	t.ends[id] = s
	if len(t.ids) > maxTold {
		delete(t.ends, t.ids[0])
		t.ids = t.ids[1:]
	}
}

// find returns a process that runs or whose end the host has not heard of, or
// else the end of one of which nothing else is left.
func (t *Table) find(id string) (*process, proto.ProcessStatus, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, s := t.processes[id], t.told.ends[id]
	if _, known := t.told.ends[id]; p == nil && !known {
		return nil, s, fmt.Errorf("process %q: %w", id, ErrNotFound)
	}
	return p, s, nil
}
