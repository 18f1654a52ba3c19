package image

import (
	"context"
	"io"
)

// step is how many bytes pass between two reports.
const step = 4 << 20

// progress reports how much of the work of a build is done. It is used by one
// goroutine.
type progress struct {
	report         func(Progress)
	done, total    int64
	lastlyReported int64
}

// stage reports that another stage began.
func (p *progress) stage(name string) {
	if p.report != nil {
		p.report(Progress{Stage: name})
	}
}

func (p *progress) add(n int) {
	p.done += int64(n)
	if p.report != nil && (p.done-p.lastlyReported >= step || p.done == p.total) {
		p.lastlyReported = p.done
		p.report(Progress{Stage: StageBuilding, Done: p.done, Total: p.total})
	}
}

// progressReader reads until the context ends and counts for p, if not nil.
type progressReader struct {
	ctx context.Context
	r   io.Reader
	p   *progress
}

func (r *progressReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	if r.p != nil {
		r.p.add(n)
	}
	return n, err
}
