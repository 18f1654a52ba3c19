package progress

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestBytesAreShownAfterAMomentAndErased(t *testing.T) {
	var total atomic.Int64
	tick, done, ended := make(chan time.Time), make(chan struct{}), make(chan struct{})
	begun := time.Unix(0, 0)
	term, content := terminal(t)
	go func() {
		defer close(ended)
		count(&line{terminal: term}, "copying", &total, begun, tick, done)
	}()
	total.Store(5 << 20)
	tick <- begun.Add(patience / 2)
	tick <- begun.Add(2 * time.Second)
	close(done)
	<-ended
	if got, want := content(), "\raegis: copying: 5.0 MiB, 2.5 MiB/s\x1b[K\r\x1b[K"; got != want {
		t.Errorf("drawn %q, want %q", got, want)
	}
}

func TestSizesAreForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 1 << 30: "1.0 GiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
