package logs

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// stream answers a query.
type stream struct {
	query  api.LogQuery
	ctx    context.Context
	cancel context.CancelFunc
	end    int64 // what is behind it counts only when following
	forget func()

	reading sync.Mutex // held by Next
	reader  reader
}

// Read answers a query, until ctx ends.
func (l *Log) Read(ctx context.Context, q api.LogQuery) (api.LogStream, error) {
	st := &stream{query: q, reader: reader{log: l, at: q.Cursor}, forget: func() {}}
	s, err := l.state(&st.reader)
	if err != nil {
		return nil, err
	}
	st.end = s.end
	if q.Tail != nil {
		if st.reader.at, err = l.tail(q, s.end); err != nil {
			return nil, err
		}
	}
	st.ctx, st.cancel = context.WithCancel(ctx)
	if q.Follow {
		st.reader.follower = &follower{at: st.reader.at}
		st.forget = l.follows(st.reader.follower)
	}
	return st, nil
}

// tail is where the last entries begin that a query wants.
func (l *Log) tail(q api.LogQuery, end int64) (int64, error) {
	at, left := end, *q.Tail
	if left <= 0 {
		return end, nil
	}
	err := l.backward(func(begin int64, line []byte) bool {
		if begin < q.Cursor {
			return false
		}
		if r, err := parse(line); err == nil && wants(q, r) {
			at, left = begin, left-1
		}
		return left > 0
	})
	return at, err
}

// wants tells whether a query asks for a record.
func wants(q api.LogQuery, r Record) bool {
	return (q.Since == nil || !r.Time.Before(*q.Since)) &&
		(q.Until == nil || !r.Time.After(*q.Until)) &&
		(q.Source == "" || r.Source == q.Source) &&
		(q.ExecID == "" || r.ExecID == q.ExecID)
}

// Next implements api.LogStream.
func (s *stream) Next() ([]api.LogEntry, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	for {
		if s.ctx.Err() != nil {
			return nil, context.Cause(s.ctx)
		}
		late := s.late() // before looking, so that nothing falls in between
		if !s.query.Follow && s.reader.at >= s.end {
			return nil, io.EOF
		}
		entries, changed, err := s.reader.next()
		switch {
		case api.CodeOf(err) == api.NotFound:
			return nil, io.EOF
		case err != nil:
			return nil, err
		case len(entries) == 0 && (late || !s.query.Follow):
			return nil, io.EOF
		case len(entries) == 0:
			s.wait(changed)
		}
		if wanted := s.wanted(entries); len(wanted) > 0 {
			return wanted, nil
		}
	}
}

// wanted leaves out what the query does not ask for. What the reader itself
// has to say passes every filter.
func (s *stream) wanted(entries []entry) (wanted []api.LogEntry) {
	for _, e := range entries {
		there := s.query.Follow || e.next <= s.end
		if e.note || there && wants(s.query, e.Record) {
			wanted = append(wanted, e.of(s.reader.log.id))
		}
	}
	return wanted
}

// late tells whether nothing more can come that the query asks for.
func (s *stream) late() bool {
	return s.query.Until != nil && time.Now().After(*s.query.Until)
}

// wait returns at a change, at the end of ctx, or when it has become late.
func (s *stream) wait(changed <-chan struct{}) {
	var late <-chan time.Time
	if s.query.Until != nil {
		t := time.NewTimer(time.Until(*s.query.Until) + time.Millisecond)
		defer t.Stop()
		late = t.C
	}
	select {
	case <-changed:
	case <-late:
	case <-s.ctx.Done():
	}
}

// Close implements api.LogStream.
func (s *stream) Close() error {
	s.cancel()
	s.forget()
	s.reading.Lock()
	defer s.reading.Unlock()
	s.reader.close()
	return nil
}
