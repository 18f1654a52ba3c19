package logs

import (
	"time"
)

// follower is where a reader that follows is.
type follower struct {
	at int64
	// overtaken is set when it was waited for in vain: it is not waited for
	// again before it has read all there is.
	overtaken bool
}

// follows makes a follower known; the returned function forgets it.
func (l *Log) follows(f *follower) (forget func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.followers[f] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.followers, f)
		l.move()
	}
}

// isAt notes how far a follower has come; l.mu is held.
func (l *Log) isAt(f *follower, at int64) {
	f.at = at
	if f.overtaken = f.overtaken && at < l.end; !f.overtaken {
		l.move()
	}
}

// move wakes those who wait for followers; l.mu is held.
func (l *Log) move() {
	if l.moved != nil {
		close(l.moved)
		l.moved = nil
	}
}

// awaitFollowers waits until a rotation that these records may bring about
// deletes nothing that a follower has yet to read. It has an end: a follower
// that stands still costs a process one grace, and is told what it missed.
func (l *Log) awaitFollowers(records []Record) {
	timer := time.NewTimer(l.config.Grace)
	defer timer.Stop()
	for {
		moved := l.blocked(records)
		if moved == nil {
			return
		}
		select {
		case <-moved:
		case <-timer.C:
			l.overtake()
			return
		}
	}
}

// blocked gives what is closed when a follower has moved, nil where nobody has
// to be waited for.
func (l *Log) blocked(records []Record) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over != nil || len(l.bases) < l.config.Files || l.size()+size(records) <= l.config.FileSize || !l.behind() {
		return nil
	}
	if l.moved == nil {
		l.moved = make(chan struct{})
	}
	return l.moved
}

// size is about how long records are when stored, rather more than less.
func size(records []Record) (n int64) {
	const head = 200
	for _, r := range records {
		n += head + 2*int64(len(r.Line)+len(r.Raw))
	}
	return n
}

// portion is how many of the records are appended at once: they bring about no
// more than one rotation.
func (l *Log) portion(records []Record) (n int) {
	for room := l.config.FileSize / 2; n < len(records) && (n == 0 || room >= 0); n++ {
		room -= size(records[n : n+1])
	}
	return n
}

// behind tells whether a follower has yet to read the oldest file; l.mu is
// held.
func (l *Log) behind() bool {
	for f := range l.followers {
		if !f.overtaken && f.at < l.oldest() {
			return true
		}
	}
	return false
}

// oldest is where the files begin that the next rotation leaves.
func (l *Log) oldest() int64 {
	if keep := len(l.bases) - l.config.Files + 1; keep < len(l.bases) {
		return l.bases[keep]
	}
	return l.end
}

func (l *Log) overtake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f := range l.followers {
		f.overtaken = f.overtaken || f.at < l.oldest()
	}
	l.config.Log.Info("a follower of a log is overtaken", "instance", l.id)
}
