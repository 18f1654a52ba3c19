package workspace

import "sync"

// replies keeps the answers of calls that must not be carried out twice.
type replies struct {
	mu    sync.Mutex // guards the fields below
	known map[callID]*answered
	order []callID // the oldest first
}

type answered struct {
	done  chan struct{} // closed when reply is set
	reply []byte
}

func newReplies() *replies { return &replies{known: map[callID]*answered{}} }

// once carries out a call that was not carried out yet, or returns what it
// was answered, which may have to be waited for.
func (r *replies) once(id callID, carryOut func() []byte) []byte {
	r.mu.Lock()
	if a := r.known[id]; a != nil {
		r.mu.Unlock()
		<-a.done
		return a.reply
	}
	a := &answered{done: make(chan struct{})}
	r.known[id] = a
	if r.order = append(r.order, id); len(r.order) > maxRepeats {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.mu.Unlock()
	defer func() {
		if a.reply == nil { // it panicked
			r.mu.Lock()
			delete(r.known, id)
			r.mu.Unlock()
		}
		close(a.done)
	}()
	a.reply = carryOut()
	return a.reply
}
