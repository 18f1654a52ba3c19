package image

import (
	"context"
	"io"
	"sync"
)

// step is how many bytes pass between two reports.
const step = 1 << 20

// progress reports how much of a stage is done, in order.
type progress struct {
	report func(Progress)

	mu             sync.Mutex // guards the fields below and the order of reports
	name           string
	done, total    int64
	lastlyReported int64
}

// stage reports that another stage began.
func (p *progress) stage(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tell(Progress{Stage: name})
}

// begin starts a stage whose bytes are counted.
func (p *progress) begin(name string, total int64) {
	p.mu.Lock()
	p.name, p.total, p.done, p.lastlyReported = name, total, 0, 0
	p.mu.Unlock()
	p.add(0)
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.done-p.lastlyReported >= step || p.done == p.total {
		p.lastlyReported = p.done
		p.tell(Progress{Stage: p.name, Done: p.done, Total: p.total})
	}
}

func (p *progress) tell(told Progress) {
	if p.report != nil {
		p.report(told)
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
		r.p.add(int64(n))
	}
	return n, err
}
