package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

func TestCopyStreamMovesEveryByte(t *testing.T) {
	data := make([]byte, 5<<20+7)
	rand.NewChaCha8([32]byte{}).Read(data)
	for _, c := range []struct {
		name string
		// open makes the source and the destination that are copied between,
		// and the far ends of both.
		open func(t *testing.T) (near, src, dst, far *os.File)
	}{
		{"from a socket to a pipe of a shell", func(t *testing.T) (near, src, dst, far *os.File) {
			src, near = socketpair()
			far, dst = pipe(t)
			return near, src, dst, far
		}},
		{"from a pipe of a shell to a socket", func(t *testing.T) (near, src, dst, far *os.File) {
			src, near = pipe(t)
			dst, far = socketpair()
			return near, src, dst, far
		}},
		{"from a socket to a socket", func(*testing.T) (near, src, dst, far *os.File) {
			src, near = socketpair()
			dst, far = socketpair()
			return near, src, dst, far
		}},
		{"from a pipe that is polled to a socket", func(t *testing.T) (near, src, dst, far *os.File) {
			src, near, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			dst, far = socketpair()
			return near, src, dst, far
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, src, dst, far := c.open(t)
			defer src.Close()
			defer far.Close()
			go func() {
				near.Write(data)
				near.Close()
			}()
			copied := make(chan error, 1)
			go func() {
				n, err := copyCounted(dst, src)
				if err == nil && n != int64(len(data)) {
					err = fmt.Errorf("%d bytes were counted, not %d", n, len(data))
				}
				copied <- err
				dst.Close()
			}()
			got, err := io.ReadAll(far)
			if err := errors.Join(err, <-copied); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d of %d bytes, or others, arrived: %v", len(got), len(data), err)
			}
		})
	}
}

func TestCopyStreamTellsWhichSideFailed(t *testing.T) {
	t.Run("the reader has gone", func(t *testing.T) {
		src, near := socketpair()
		defer src.Close()
		defer near.Close()
		r, w := pipe(t)
		r.Close()
		io.WriteString(near, "hello")
		if err := copyStream(w, src); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("got %v, want EPIPE", err)
		}
	})
	t.Run("the source was closed", func(t *testing.T) {
		src, near := socketpair()
		defer near.Close()
		r, w := pipe(t)
		defer r.Close()
		src.Close()
		err := copyStream(w, src)
		if _, ok := errors.AsType[readError](err); !ok {
			t.Errorf("got %v, want an error of reading", err)
		}
	})
}

func TestNobodyReadingDoesNotKeepTheRunFromEnding(t *testing.T) {
	r, w := pipe(t) // fills up
	defer r.Close() // not before
	c := attached(t)
	c.aegis = &fakeAegis{program: func(g *guest) {
		g.awaitClient()
		c.signals <- syscall.SIGINT
		<-g.signals
		c.signals <- syscall.SIGINT
		for {
			if _, err := g.stdout.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}}
	c.stdout = w
	if got, err := c.run(t, api.InstanceSpec{}); got != 130 || err != nil {
		t.Errorf("exit code %d, %v; want 130", got, err)
	}
}

func BenchmarkCopyStream(b *testing.B) {
	const size = 64 << 20
	for _, c := range []struct {
		name string
		copy func(dst, src *os.File) (int64, error)
	}{{"splice", copyCounted}, {"read and write", copyBuffered}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				src, near := socketpair()
				far, dst := pipe(b)
				go func() {
					near.Write(make([]byte, size))
					near.Close()
				}()
				go func() {
					c.copy(dst, src)
					dst.Close()
				}()
				if n, err := io.Copy(io.Discard, far); n != size || err != nil {
					b.Fatal(n, err)
				}
				src.Close()
			}
		})
	}
}
