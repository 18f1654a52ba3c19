package listen

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Events tells of programs in a group that begin to listen. Its methods may be
// called from several goroutines.
type Events struct {
	group string // of cgroup2

	mu       sync.Mutex // guards the fields below
	failed   error      // why this kernel cannot
	kernel   *kernel    // nil until somebody waits
	attached link.Link  // nil while nobody waits
	waiting  map[*waiter]bool
}

type waiter struct {
	port  uint16
	woken chan struct{} // has room for one
}

// New makes Events of a group, given by its folder, and of those below it.
// Nothing is asked of the kernel before somebody waits.
func New(group string) *Events { return &Events{group: group, waiting: map[*waiter]bool{}} }

// Watch tells, until stop is called, when a program may have begun to listen on
// a port of TCP; who began before is not told of. A channel that is closed tells
// nothing any more. An error says that this kernel cannot tell; it is the same
// each time.
func (e *Events) Watch(port uint16) (woken <-chan struct{}, stop func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.attach(); err != nil {
		return nil, nil, err
	}
	w := &waiter{port: port, woken: make(chan struct{}, 1)}
	e.waiting[w] = true
	return w.woken, func() { e.leave(w) }, nil
}

// attach has the kernel tell.
func (e *Events) attach() error {
	if e.failed != nil || e.attached != nil {
		return e.failed
	}
	if e.kernel == nil {
		k, err := load()
		if err != nil {
			e.failed = err
			return err
		}
		e.kernel = k
		go e.follow(k) // ends with the kernel's buffer
	}
	var err error
	e.attached, err = link.AttachCgroup(link.CgroupOptions{
		Path: e.group, Attach: ebpf.AttachCGroupSockOps, Program: e.kernel.program,
	})
	if err != nil {
		e.failed = fmt.Errorf("attaching a program of the kernel to %s: %w", e.group, err)
		e.attached = nil
	}
	return e.failed
}

// leave ends a wait. With the last one the kernel has nothing to do any more.
func (e *Events) leave(w *waiter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.waiting, w)
	if len(e.waiting) == 0 && e.attached != nil {
		e.attached.Close()
		e.attached = nil
	}
}

// follow reads what the kernel tells.
func (e *Events) follow(k *kernel) {
	for {
		record, err := k.reader.Read()
		if err != nil {
			e.give(k, err)
			return
		}
		if len(record.RawSample) >= recordSize {
			e.wake(uint16(binary.NativeEndian.Uint32(record.RawSample)))
		}
	}
}

// give gives up: who waits has to look for himself.
func (e *Events) give(k *kernel, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.kernel != k {
		return // it was closed
	}
	e.failed = fmt.Errorf("reading what the kernel tells: %w", err)
	for w := range e.waiting {
		close(w.woken)
	}
	clear(e.waiting)
}

func (e *Events) wake(port uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for w := range e.waiting {
		if w.port != port {
			continue
		}
		select {
		case w.woken <- struct{}{}:
		default:
		}
	}
}

// Close lets go of the kernel's parts; a harness never does.
func (e *Events) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.attached != nil {
		e.attached.Close()
		e.attached = nil
	}
	if e.kernel == nil {
		return nil
	}
	k := e.kernel
	e.kernel = nil
	return k.close()
}
