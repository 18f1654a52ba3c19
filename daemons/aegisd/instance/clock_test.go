package instance_test

import (
	"sync"
	"testing"
	"time"
)

// clock is a time that passes only when a test says so.
type clock struct {
	mu     sync.Mutex // guards the fields below
	now    time.Time
	timers map[*timer]bool
	set    chan struct{} // closed and replaced when there is a new timer
}

type timer struct {
	at time.Time
	f  func()
}

func newClock() *clock {
	return &clock{now: time.Now(), timers: map[*timer]bool{}, set: make(chan struct{})}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) AfterFunc(d time.Duration, f func()) func() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d <= 0 {
		go f()
		return func() bool { return false }
	}
	t := &timer{c.now.Add(d), f}
	c.timers[t] = true
	close(c.set)
	c.set = make(chan struct{})
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		was := c.timers[t]
		delete(c.timers, t)
		return was
	}
}

// advance lets time pass.
func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	c.now = c.now.Add(d)
	var due []func()
	for t := range c.timers {
		if !t.at.After(c.now) {
			due = append(due, t.f)
			delete(c.timers, t)
		}
	}
	c.mu.Unlock()
	for _, f := range due {
		f()
	}
}

// awaitTimer waits for a timer that is due at a time as wanted.
func (c *clock) awaitTimer(t testing.TB, what string, want func(at time.Time) bool) time.Time {
	t.Helper()
	patience := time.After(10 * time.Second)
	for {
		c.mu.Lock()
		set := c.set
		for timer := range c.timers {
			if want(timer.at) {
				c.mu.Unlock()
				return timer.at
			}
		}
		c.mu.Unlock()
		select {
		case <-set:
		case <-patience:
			t.Fatalf("no timer is set for %s", what)
		}
	}
}
