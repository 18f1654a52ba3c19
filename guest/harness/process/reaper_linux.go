package process

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// Reaper collects every child that ends, also those that a dead parent left
// to PID 1. Nothing else in the program may wait for children.
type Reaper struct {
	signals chan os.Signal
	kick    chan struct{}
	quit    chan struct{}
	stopped chan struct{}

	mu sync.Mutex // held while a child starts, so that its end finds it
	// ends has what to do when a child ends.
	ends map[int]func(syscall.WaitStatus)
	// none are closed when there is no child left.
	none []chan struct{}
}

// NewReaper starts reaping, until Stop.
func NewReaper() *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1), kick: make(chan struct{}, 1),
		quit: make(chan struct{}), stopped: make(chan struct{}),
		ends: map[int]func(syscall.WaitStatus){},
	}
	signal.Notify(r.signals, syscall.SIGCHLD)
	go r.run() // ends with Stop
	return r
}

// Stop ends the reaping.
func (r *Reaper) Stop() {
	signal.Stop(r.signals)
	close(r.quit)
	<-r.stopped
}

// Start starts a child and calls ended, from another goroutine, when it has
// ended. Neither may call the Reaper.
func (r *Reaper) Start(start func() (pid int, err error), ended func(syscall.WaitStatus)) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := start()
	if err == nil {
		r.ends[pid] = ended
	}
	return pid, err
}

// Signal signals the group that child pid leads, unless ended: its number is
// given to no other process before that is known.
func (r *Reaper) Signal(pid int, sig syscall.Signal, ended func() bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ended() {
		return nil
	}
	if err := syscall.Kill(-pid, sig); err != syscall.ESRCH {
		return err
	}
	return nil
}

// None is closed as soon as there are no children.
func (r *Reaper) None() <-chan struct{} {
	c := make(chan struct{})
	r.mu.Lock()
	r.none = append(r.none, c)
	r.mu.Unlock()
	select {
	case r.kick <- struct{}{}:
	default:
	}
	return c
}

func (r *Reaper) run() {
	defer close(r.stopped)
	for {
		select {
		case <-r.signals:
		case <-r.kick:
		case <-r.quit:
			return
		}
		for r.reap() {
		}
	}
}

// reap collects one child; false when none has ended.
func (r *Reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	ended := r.ends[pid]
	delete(r.ends, pid)
	if pid > 0 && ended != nil {
		ended(status)
	}
	if err == syscall.ECHILD {
		for _, c := range r.none {
			close(c)
		}
		r.none = nil
	}
	return pid > 0 || err == syscall.EINTR
}
