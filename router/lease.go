package router

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/xfeldman/aegisvm/vmm/dialer"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// held is a lease that this router holds.
type held struct {
	conn    *net.UnixConn
	guest   *guest
	started time.Time
	asleep  atomic.Bool
	served  atomic.Bool // somebody was connected

	users  atomic.Int64
	wanted chan struct{} // has room for one: users has changed
	over   chan struct{} // closed by close
	once   sync.Once
}

// hold takes possession of what a wake has given.
func hold(a Awake) (*held, error) {
	conn, err := packet.Conn(a.Lease)
	if err != nil {
		a.Dialer.Close()
		return nil, err
	}
	d, err := dialer.New(a.Dialer)
	if err != nil {
		conn.Close()
		return nil, err
	}
	h := &held{conn: conn, guest: newGuest(d, a.Address), started: a.Started, wanted: make(chan struct{}, 1), over: make(chan struct{})}
	// The first word says how the instance is; it was sent before the answer.
	conn.SetReadDeadline(time.Now().Add(answerTime))
	if err := h.hear(); err != nil {
		h.close()
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	return h, nil
}

// hear takes one word of the waker.
func (h *held) hear() error {
	var s LeaseState
	files, err := packet.Receive(h.conn, &s)
	packet.CloseAll(files)
	if err == nil {
		h.asleep.Store(s.Asleep)
	}
	return err
}

// follow returns when the lease has ended; slept is called when the instance is
// put to sleep.
func (h *held) follow(slept func()) {
	var say sync.WaitGroup
	defer say.Wait()
	defer h.close()
	say.Go(h.say)
	for h.hear() == nil {
		if h.asleep.Load() {
			slept()
		}
	}
}

// use says how many connections there are.
func (h *held) use(n int) {
	h.users.Store(int64(n))
	select {
	case h.wanted <- struct{}{}:
	default:
	}
}

// sayPause is how long the waker hears nothing new: many connections come and
// go in that time.
const sayPause = 20 * time.Millisecond

// say tells the waker, which gets the newest number and not each.
func (h *held) say() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-h.wanted:
			if packet.Send(h.conn, LeaseUse{int(h.users.Load())}) != nil {
				return
			}
		case <-h.over:
			return
		}
		pause.Reset(sayPause)
		select {
		case <-pause.C:
		case <-h.over:
			return
		}
	}
}

func (h *held) close() {
	h.once.Do(func() {
		close(h.over)
		h.conn.Close()
		h.guest.drop()
	})
}
