package link

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
)

// seeded is what a stream carries: a seed, then bytes that follow from it.
type seeded struct{ gen *rand.ChaCha8 }

func newSeeded(seed uint64) seeded {
	var s [32]byte
	binary.NativeEndian.PutUint64(s[:], seed)
	return seeded{rand.NewChaCha8(s)}
}

// next returns the next n bytes; a third of them are zeros in runs, as in the
// padding, or look like frames.
func (s seeded) next(n int) []byte {
	b := make([]byte, n)
	s.gen.Read(b)
	switch s.gen.Uint64() % 3 {
	case 0:
		clear(b)
	case 1:
		e := epoch(b[:epochLen])
		clear(b)
		copy(b[n-headLen-tailLen:], control(kindReset, &e))
	}
	return b
}

const block = 4096

// send writes blocks until the stream breaks.
func send(c io.Writer, seed uint64, blocks int) {
	c.Write(binary.NativeEndian.AppendUint64(nil, seed))
	s := newSeeded(seed)
	for range blocks {
		if _, err := c.Write(s.next(block)); err != nil {
			return
		}
	}
}

// check reads what send writes and returns how many blocks came. Whatever
// differs is an error, also a part of a block.
func check(t *testing.T, c io.Reader) int {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0
	}
	s := newSeeded(binary.NativeEndian.Uint64(head[:]))
	got := make([]byte, block)
	for n := 0; ; n++ {
		m, err := io.ReadFull(c, got)
		if want := s.next(block); string(got[:m]) != string(want[:m]) {
			t.Errorf("block %d of a stream holds bytes that nobody sent", n)
			return n
		}
		if err != nil {
			if errors.Is(err, io.EOF) && m > 0 {
				t.Errorf("block %d ended in order after %d bytes", n, m)
			}
			return n
		}
	}
}

func TestNoByteOfAnOldEpochIsEverDelivered(t *testing.T) {
	attaches := 3000
	if testing.Short() {
		attaches = 300
	}
	w := newWire()
	server := Serve(w)
	var guest sync.WaitGroup
	guest.Go(func() { echoAll(t, server, &guest) })
	for i := range attaches {
		session, err := Attach(w.plug())
		if err != nil {
			t.Fatal(err)
		}
		visit(t, session, i%10 == 0)
		session.Close()
		if t.Failed() {
			break
		}
	}
	server.Close()
	guest.Wait()
}

// echoAll checks what comes on port 1 and sends back the same kind of bytes.
func echoAll(t *testing.T, server *Server, guest *sync.WaitGroup) {
	for {
		c, port, err := server.Accept()
		if err != nil {
			return
		}
		if port != 1 {
			t.Errorf("port %d", port)
		}
		guest.Go(func() {
			both(func() { send(c, rand.Uint64(), 20); c.CloseWrite() }, func() { check(t, c) })
			c.Close()
		})
	}
}

// visit is the life of one host: it ends at random, but for some that check
// that everything arrives.
func visit(t *testing.T, session *Session, whole bool) {
	var wg sync.WaitGroup
	enough := make(chan struct{}, 100)
	for range 1 + rand.IntN(3) {
		c, err := session.Dial(t.Context(), 1)
		if err != nil {
			t.Errorf("dialling: %v", err)
			return
		}
		wg.Go(func() {
			both(func() { send(c, rand.Uint64(), 20); c.CloseWrite() }, func() {
				if n := check(t, &counting{c, enough}); whole && n != 20 {
					t.Errorf("%d blocks of 20 came back", n)
				}
			})
			c.Close()
		})
	}
	if whole {
		wg.Wait()
		return
	}
	for range rand.IntN(12) {
		<-enough
	}
	session.Close()
	wg.Wait()
}

func both(a, b func()) {
	var wg sync.WaitGroup
	wg.Go(a)
	b()
	wg.Wait()
}

// counting tells of each read.
type counting struct {
	io.Reader
	reads chan<- struct{}
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	select {
	case c.reads <- struct{}{}:
	default:
	}
	return n, err
}

func TestASnapshotTakenInMidFrameIsServedUnderANewHost(t *testing.T) {
	e, old := epoch{1, 1, 1, 1, 1, 1, 1, 1, 1}, epoch{2, 2, 2, 2, 2, 2, 2, 2, 2}
	frame := append(make([]byte, headLen), make([]byte, maxBody)...)
	putHead(frame, kindData, &old, maxBody)
	frame = append(frame, old[:tailLen]...)
	for _, cut := range []int{1, 3, 4, 8, headLen - 1, headLen, headLen + 1, maxFrame / 2, maxFrame - tailLen, maxFrame - 1} {
		d := &guestDecoder{epoch: old, begun: true}
		stream := append(append(append([]byte{}, frame[:cut]...), make([]byte, padding)...), control(kindReset, &e)...)
		var got []frameKind
		for len(stream) > 0 {
			n, f, err := d.next(stream)
			if err != nil || n == 0 {
				t.Fatalf("cut after %d: stuck at %d bytes, %v", cut, len(stream), err)
			}
			if f.kind != kindNone {
				got = append(got, frameKind{f.kind, f.epoch})
			}
			stream = stream[n:]
		}
		if len(got) != 1 || got[0] != (frameKind{kindReset, e}) {
			t.Errorf("cut after %d: the guest saw %v", cut, got)
		}
	}
}

type frameKind struct {
	kind  kind
	epoch epoch
}
