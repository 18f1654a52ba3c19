package image

import (
	"context"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// keyedLock is a mutex for each key, whose waiters can give up.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]*heldLock
}

type heldLock struct {
	token chan struct{} // full while the key is held
	users int
}

// lock waits for key and returns what releases it.
func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	h := l.join(key)
	select {
	case h.token <- struct{}{}:
		return func() { <-h.token; l.leave(key) }, nil
	case <-ctx.Done():
		l.leave(key)
		return nil, ctx.Err()
	}
}

func (l *keyedLock) join(key string) *heldLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*heldLock{}
	}
	if l.held[key] == nil {
		l.held[key] = &heldLock{token: make(chan struct{}, 1)}
	}
	l.held[key].users++
	return l.held[key]
}

func (l *keyedLock) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[key].users--; l.held[key].users == 0 {
		delete(l.held, key)
	}
}

// tryExclusive locks f against other processes if nobody has it locked.
func tryExclusive(f *os.File) (unlock func(), ok bool, err error) {
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, false, nil
	}
	return func() { flock(f, unix.LOCK_UN) }, err == nil, err
}

// tryLockFile locks the file at path against everybody if nobody has it
// locked now.
func tryLockFile(path string) (unlock func(), ok bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	if _, ok, err := tryExclusive(f); err != nil || !ok {
		f.Close()
		return nil, false, err
	}
	return func() { f.Close() }, true, nil
}

// lockFile makes and locks the file at path against other processes and
// other openers in this one. The file stays: deleting it would let a waiter
// lock a file that nobody else sees.
func lockFile(ctx context.Context, path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockOpen(ctx, f, how); err != nil {
		return nil, err
	}
	return func() { f.Close() }, nil
}

// lockOpen locks f, or closes it. A waiter that gives up leaves a goroutine
// that ends when the other process releases the lock.
func lockOpen(ctx context.Context, f *os.File, how int) error {
	if err := flock(f, how|unix.LOCK_NB); err == nil {
		return nil
	} else if !errors.Is(err, unix.EWOULDBLOCK) {
		f.Close()
		return err
	}
	locked := make(chan error, 1)
	go func() { locked <- flock(f, how) }()
	select {
	case err := <-locked:
		if err != nil {
			f.Close()
		}
		return err
	case <-ctx.Done():
		go func() { <-locked; f.Close() }()
		return ctx.Err()
	}
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			return err
		}
	}
}
