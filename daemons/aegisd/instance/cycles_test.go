package instance_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/router/routertest"
)

// TestNobodyNoticesThatItSleeps puts an instance to sleep and wakes it at random
// while clients use it: none is refused, and none loses a byte.
func TestNobodyNoticesThatItSleeps(t *testing.T) {
	cycles := 1000
	if testing.Short() {
		cycles = 50
	}
	w := newWorld(t)
	w.linger = time.Millisecond
	w.restart()
	w.create(service(api.RestartOnDemand))
	w.awaitPhase("web", api.PhaseRunning)
	echo := routertest.Listen(t, func(c *net.TCPConn) {
		io.Copy(c, c)
		c.CloseWrite()
	})
	e := w.expose("web", api.Expose{GuestPort: echo, Protocol: api.ProtocolTCP})
	var served atomic.Int64
	var clients sync.WaitGroup
	come := func(n int, when string) {
		for i := range n {
			clients.Go(func() {
				word := fmt.Sprintf("client %d, %s", i, when)
				if got, err := converse(e, word); err != nil || got != word {
					t.Errorf("%s: %q (%v)", word, got, err)
				}
				served.Add(1)
			})
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	slept := map[api.Phase]int{}
	for cycle := range cycles {
		come(random.IntN(3), fmt.Sprint("before cycle ", cycle))
		sleep := w.Pause
		if random.IntN(2) == 0 {
			sleep = w.Hibernate
		}
		in, err := sleep(t.Context(), "web")
		if err != nil && api.CodeOf(err) != api.BadState { // somebody came
			t.Fatal(err)
		}
		slept[in.Phase]++
		come(random.IntN(3), fmt.Sprint("after cycle ", cycle))
		if _, err := w.Resume(t.Context(), "web"); err != nil { // for those that a pause has caught
			t.Fatal(err)
		}
		if random.IntN(2) == 0 {
			clients.Wait()
		}
	}
	clients.Wait()
	in, err := w.Get(t.Context(), "web")
	if err != nil || in.Starts != 1 || slept[api.PhasePaused] == 0 || slept[api.PhaseHibernated] == 0 {
		t.Errorf("slept %v: %+v, %v", slept, in, err)
	}
	t.Logf("%d connections served, slept %v", served.Load(), slept)
}

// converse says a word, ends, and reads the answer.
func converse(e api.Endpoint, word string) (string, error) {
	c, err := net.Dial("tcp", net.JoinHostPort(e.Bind, strconv.Itoa(e.PublicPort)))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, word); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}
