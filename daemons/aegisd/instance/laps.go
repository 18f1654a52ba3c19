package instance

import (
	"log/slog"
	"time"
)

// laps tells, for one log line, what a start spent its time on.
type laps struct {
	last  time.Time
	attrs []slog.Attr
}

func newLaps() *laps { return &laps{last: time.Now()} }

// lap ends a step.
func (l *laps) lap(step string) {
	now := time.Now()
	l.attrs = append(l.attrs, slog.Duration(step, now.Sub(l.last).Round(time.Millisecond)))
	l.last = now
}

func (l *laps) group() slog.Value { return slog.GroupValue(l.attrs...) }
