package process

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// Times that the contract fixes.
const (
	// dialGrace is how long a process that is to end with its client waits for
	// one to come.
	dialGrace = 30 * time.Second
	// killGrace is what a process has after the signal that asks it to end.
	killGrace = 5 * time.Second
)

// codeTimedOut is the code of a process that ran out of time, as timeout(1)
// has it.
const codeTimedOut = 124

// life ends a process that has outlived its client or its time.
type life struct {
	mu       sync.Mutex // guards the fields below
	ended    bool
	clients  int         // who hold the status stream
	grace    *time.Timer // until a client must have come
	limit    *time.Timer
	timedOut time.Duration // what ran out
	asked    bool          // to end
}

// live begins what the process's lifetime and timeout ask for.
func (p *process) live(timeout time.Duration) {
	l := &p.life
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range p.streams {
		if s != nil {
			s.keep(nil)
		}
	}
	if l.ended {
		return
	}
	if p.lifetime == proto.Lifetime_LIFETIME_CLIENT {
		l.grace = time.AfterFunc(dialGrace, func() { p.ask(syscall.SIGHUP) })
	}
	if timeout > 0 {
		l.limit = time.AfterFunc(timeout, func() { p.expire(timeout) })
	}
}

// over notes the end and returns how to tell it.
func (l *life) over(s proto.ProcessStatus) proto.ProcessStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, t := range []*time.Timer{l.grace, l.limit} {
		if t != nil {
			t.Stop()
		}
	}
	if l.timedOut > 0 {
		s = proto.ProcessStatus{Code: codeTimedOut, Message: fmt.Sprintf("timed out after %v", l.timedOut)}
	}
	return s
}

// expire ends a process whose time is up.
func (p *process) expire(limit time.Duration) {
	p.life.mu.Lock()
	p.life.timedOut = limit
	p.life.mu.Unlock()
	p.ask(syscall.SIGTERM)
}

// ask asks the process to end, once, and sees to it that all of it does.
// SIGCONT lets a stopped one hear it.
func (p *process) ask(sig syscall.Signal) {
	l := &p.life
	l.mu.Lock()
	again := l.asked || l.ended
	l.asked = true
	l.mu.Unlock()
	if again {
		return
	}
	for _, s := range []syscall.Signal{sig, syscall.SIGCONT} {
		_ = p.reaper.Signal(p.pid, s, p.ended)
	}
	time.AfterFunc(killGrace, func() { p.killRest(sig) })
}

// killRest kills what is left of a process that was asked to end, itself or
// not. Who has left the session of a terminal has done so to outlive its hangup,
// such as tmux.
func (p *process) killRest(asked syscall.Signal) {
	hangup := asked == syscall.SIGHUP && p.streams[proto.Terminal] != nil
	if p.group == nil || hangup || p.group.kill() != nil {
		killSession(p.pid)
	}
}

// killSession kills what is left of a session, its leader or not. It looks
// again as long as it finds something, for that may have forked.
func killSession(sid int) {
	const looks = 10
	for range looks {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		found := false
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			if n, err := unix.Getsid(pid); err == nil && n == sid {
				found = syscall.Kill(pid, syscall.SIGKILL) == nil || found
			}
		}
		if !found {
			return
		}
	}
}

// hold notes a client that holds the status stream c. What it returns is
// closed when that client has gone; a process whose lifetime says so is hung
// up with the last one.
func (p *process) hold(c Conn) (left <-chan struct{}) {
	if p.lifetime != proto.Lifetime_LIFETIME_CLIENT {
		return gone(c)
	}
	l := &p.life
	l.mu.Lock()
	l.clients++
	if l.grace != nil {
		l.grace.Stop()
	}
	l.mu.Unlock()
	closed := make(chan struct{})
	go func() { // ends with c
		defer close(closed)
		_, err := io.Copy(io.Discard, c)
		p.leave(err)
	}()
	return closed
}

// leave notes that a client has gone. After a connection that broke rather
// than ended, another one may come.
func (p *process) leave(broken error) {
	l := &p.life
	l.mu.Lock()
	l.clients--
	last := l.clients == 0 && !l.ended
	if last && broken != nil && l.grace != nil {
		l.grace.Reset(dialGrace)
	}
	l.mu.Unlock()
	if last && broken == nil {
		p.ask(syscall.SIGHUP)
	}
}
