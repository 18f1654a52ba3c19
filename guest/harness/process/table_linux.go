package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// maxRunning is how many processes the host may run at once.
const maxRunning = 512

// maxEnded is how many ended processes are kept for a host that has not asked
// for them.
const maxEnded = 256

// Errors of Table, wrapped with the id.
var (
	ErrNotFound = errors.New("no such process")
	ErrExists   = errors.New("there is such a process already")
	ErrInvalid  = errors.New("cannot be started")
	ErrMany     = errors.New("too many processes run already")
	ErrNoTTY    = errors.New("it has no terminal")
)

// Table has the processes of the guest. Its methods may be called from
// several goroutines.
type Table struct {
	reaper *Reaper
	groups groups

	mu sync.Mutex // guards the fields below
	// processes are those that run and those whose end the host has not
	// heard of; ids has the order in which they started.
	processes map[string]*process
	ids       []string
	told      told
	// serving counts the streams that are served; idle are closed when there
	// is none.
	serving int
	idle    []chan struct{}
}

// NewTable makes an empty table.
func NewTable(r *Reaper) *Table {
	return &Table{reaper: r, processes: map[string]*process{}}
}

// WithGroups makes processes that may have to be ended have a control group
// below dir, which is on a cgroup2 file system.
func (t *Table) WithGroups(dir string) *Table {
	t.groups.dir = dir
	return t
}

// Start starts a program and returns its pid. A program that cannot be run is
// no error: it has pid 0 and has ended with status 126 or 127 and a message.
func (t *Table) Start(s Spec) (int, error) {
	if s.ID == "" || len(s.ID) > proto.MaxID {
		return 0, fmt.Errorf("%w: process id of %d bytes, 1 to %d expected", ErrInvalid, len(s.ID), proto.MaxID)
	}
	if len(s.Argv) == 0 {
		return 0, fmt.Errorf("process %q %w: no argv", s.ID, ErrInvalid)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.processes[s.ID]; old != nil && !old.ended() {
		return 0, fmt.Errorf("process %q: %w", s.ID, ErrExists)
	}
	if t.running() >= maxRunning {
		return 0, fmt.Errorf("process %q: %w: at most %d", s.ID, ErrMany, maxRunning)
	}
	p, err := start(t.reaper, &t.groups, s)
	if err != nil {
		return 0, fmt.Errorf("process %q: %w", s.ID, err)
	}
	t.add(p)
	return p.pid, nil
}

// add puts p in the table, which never holds more than the running processes
// and maxEnded others.
func (t *Table) add(p *process) {
	t.drop(p.id)
	t.processes[p.id] = p
	t.ids = append(t.ids, p.id)
	ended := slices.DeleteFunc(slices.Clone(t.ids), func(id string) bool { return !t.processes[id].ended() })
	for _, id := range ended[:max(0, len(ended)-maxEnded)] {
		t.drop(id)
	}
}

func (t *Table) drop(id string) {
	if p := t.processes[id]; p != nil {
		p.close()
		t.told.note(id, p.status)
		delete(t.processes, id)
		t.ids = slices.DeleteFunc(t.ids, func(s string) bool { return s == id })
	}
}

func (t *Table) get(id string) (*process, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.processes[id]
	if p == nil {
		return nil, fmt.Errorf("process %q: %w", id, ErrNotFound)
	}
	return p, nil
}

// Wait returns how a process ended, as soon as it has.
func (t *Table) Wait(ctx context.Context, id string) (proto.ProcessStatus, error) {
	p, end, err := t.find(id)
	if p == nil {
		return end, err
	}
	select {
	case <-p.done:
		return p.status, nil
	case <-ctx.Done():
		return proto.ProcessStatus{}, context.Cause(ctx)
	}
}

// Signal signals the process group of a process; one that has ended is no
// error.
func (t *Table) Signal(id string, sig syscall.Signal) error {
	p, err := t.get(id)
	if err != nil {
		return err
	}
	if err := t.reaper.Signal(p.pid, sig, p.ended); err != nil {
		return fmt.Errorf("signalling process %q: %w", id, err)
	}
	return nil
}

// Serve moves the bytes of one stream of a process over c, which it closes,
// and returns when that is over. It fails at once when there is no such
// stream or somebody else has it.
func (t *Table) Serve(c Conn, pre proto.Prelude) error {
	t.enter()
	defer t.leave()
	defer c.Close()
	p, err := t.get(pre.Process)
	if err != nil {
		return refuse(c, pre, err)
	}
	if pre.Kind == proto.Status {
		err = p.tell(c)
	} else {
		err = p.serveStream(c, pre)
	}
	t.forget(p)
	if err != nil {
		return fmt.Errorf("process %q: %w", pre.Process, err)
	}
	return nil
}

// Drain waits until every stream that was dialled has given what it has, or
// ctx ends. No process may run any more.
func (t *Table) Drain(ctx context.Context) {
	idle := make(chan struct{})
	t.mu.Lock()
	t.idle = append(t.idle, idle)
	t.tellIdle()
	t.mu.Unlock()
	select {
	case <-idle:
	case <-ctx.Done():
	}
}

func (t *Table) enter() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving++
}

func (t *Table) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serving--
	t.tellIdle()
}

// tellIdle ends the waits for an idle table; the caller holds mu.
func (t *Table) tellIdle() {
	if t.serving > 0 {
		return
	}
	for _, c := range t.idle {
		close(c)
	}
	t.idle = nil
}

// forget drops a process that the host knows all about.
func (t *Table) forget(p *process) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.processes[p.id] == p && p.settled() {
		t.drop(p.id)
	}
}

// tell writes the status when the process has ended.
func (p *process) tell(c Conn) error {
	select {
	case <-p.done:
	case <-p.hold(c):
		return nil
	}
	if err := proto.WriteEnd(c, p.told()); err != nil {
		return fmt.Errorf("telling its status: %w", err)
	}
	p.mu.Lock()
	p.fetched = true
	p.mu.Unlock()
	return c.CloseWrite()
}

// told is the whole of what is told of the end. Of a detached process and of
// a terminal nobody can say how much a client should have read.
func (p *process) told() proto.End {
	if p.lifetime == proto.Lifetime_LIFETIME_DETACHED || p.streams[proto.Terminal] != nil {
		return proto.End{ProcessStatus: p.status}
	}
	return proto.End{ProcessStatus: p.status, Output: &p.output}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
