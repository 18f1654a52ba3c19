package progress

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// redraw is how often a number that changes is shown.
const redraw = 200 * time.Millisecond

// Bytes shows on terminal how many bytes were moved, beginning after a second,
// in a line that says what it is about. moved is to be told of them; stop ends
// it and erases the line.
func Bytes(terminal *os.File, what string) (moved func(n int), stop func()) {
	tick := time.NewTicker(redraw)
	var total atomic.Int64
	done := make(chan struct{})
	var drawer sync.WaitGroup
	drawer.Go(func() {
		defer tick.Stop()
		count(&line{terminal: terminal}, what, &total, time.Now(), tick.C, done)
	})
	return func(n int) { total.Add(int64(n)) }, sync.OnceFunc(func() {
		close(done)
		drawer.Wait()
	})
}

// count redraws the line with every tick, once patience has passed.
func count(l *line, what string, total *atomic.Int64, begun time.Time, tick <-chan time.Time, done <-chan struct{}) {
	defer l.erase()
	for {
		select {
		case <-done:
			return
		case now := <-tick:
			if took := now.Sub(begun); took >= patience {
				n := total.Load()
				l.draw(fmt.Sprintf("%s: %s, %s/s", what, size(n), size(int64(float64(n)/took.Seconds()))))
			}
		}
	}
}

// size is a number of bytes for people.
func size(n int64) string {
	const unit = 1 << 10
	f, units := float64(n), "KMGTPE"
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	for f /= unit; f >= unit && len(units) > 1; units = units[1:] {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, units[0])
}
