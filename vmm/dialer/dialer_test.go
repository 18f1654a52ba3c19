package dialer

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/vmm/packet"
)

// served makes a dialer whose connections dial makes.
func served(t *testing.T, dial func(context.Context) (*os.File, error)) *Dialer {
	t.Helper()
	ours, theirs, err := packet.Pair()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() { Serve(ctx, ours, dial) })
	d, err := New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.Close()
		<-d.Done()
		cancel()
		over.Wait()
	})
	return d
}

// echo is a connection that says what it hears.
func echo(context.Context) (*os.File, error) {
	ours, theirs, err := packet.StreamPair()
	if err != nil {
		return nil, err
	}
	go func() { // ends with the other end
		io.Copy(ours, ours)
		ours.Close()
	}()
	return theirs, nil
}

func TestManyConnectAtOnceAndEachHasItsOwn(t *testing.T) {
	d := served(t, echo)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			c, err := d.Dial(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, err := c.Write([]byte{byte(i)}); err != nil {
				t.Error(err)
			}
			var b [1]byte
			if _, err := io.ReadFull(c, b[:]); err != nil || b[0] != byte(i) {
				t.Errorf("connection %d heard %d (%v)", i, b[0], err)
			}
		})
	}
	all.Wait()
}

func TestARefusalKeepsItsCodeAndTheDialer(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	d := served(t, func(ctx context.Context) (*os.File, error) {
		if refuse.Load() {
			return nil, api.Errorf(api.BadState, "the machine is paused")
		}
		return echo(ctx)
	})
	_, err := d.Dial(t.Context())
	if api.CodeOf(err) != api.BadState || err.Error() != "the machine is paused" {
		t.Errorf("dialled: %v", err)
	}
	refuse.Store(false)
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestWhoGivesUpDoesNotDisturbOthers(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	d := served(t, func(ctx context.Context) (*os.File, error) {
		asked <- struct{}{}
		<-release
		return echo(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := d.Dial(ctx)
		gaveUp <- err
	}()
	<-asked
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	close(release)
	c, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestTheEndOfTheWorkerIsHeardByAll(t *testing.T) {
	ours, theirs, err := packet.Pair()
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(theirs)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		_, err := d.Dial(context.Background())
		waiting <- err
	}()
	var r request
	if _, err := packet.Receive(ours, &r); err != nil {
		t.Fatal(err)
	}
	ours.Close()
	if err := <-waiting; !errors.Is(err, ErrClosed) {
		t.Errorf("waiting: %v", err)
	}
	<-d.Done()
	if _, err := d.Dial(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("afterwards: %v", err)
	}
}
