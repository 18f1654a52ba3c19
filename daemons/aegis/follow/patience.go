package follow

import (
	"cmp"
	"context"
	"time"
)

// patience is how long one waits for an aegisd that has gone.
type patience struct {
	limit  time.Duration
	notice func(string)
	away   time.Time // since when; zero while it is there
	pause  time.Duration
}

func newPatience(limit time.Duration, notice func(string)) *patience {
	return &patience{limit: cmp.Or(limit, time.Minute), notice: notice}
}

// here notes that aegisd is there.
func (p *patience) here() { p.away, p.pause = time.Time{}, 0 }

// wait waits a moment for an aegisd that has gone; false when it has been away
// for too long, or ctx ended.
func (p *patience) wait(ctx context.Context, why error) bool {
	const shortest, longest = 50 * time.Millisecond, time.Second
	if p.away.IsZero() {
		p.away, p.pause = time.Now(), shortest
		if p.notice != nil {
			p.notice("waiting for aegisd: " + why.Error())
		}
	}
	if time.Since(p.away) > p.limit {
		return false
	}
	t := time.NewTimer(p.pause)
	defer t.Stop()
	p.pause = min(2*p.pause, longest)
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
