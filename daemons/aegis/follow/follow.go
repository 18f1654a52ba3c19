// Package follow keeps what a client waits for over restarts of aegisd: the log
// of an instance, where a stream that breaks is asked for again behind the last
// entry that came; the events; a wait. It knows package api only and prints
// nothing.
package follow

import (
	"context"
	"io"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// Reader reads logs.
type Reader struct {
	Aegis api.Aegis
	// Notice is told once when aegisd has gone and is waited for.
	Notice func(line string)
	// Patience is how long a follower waits for an aegisd that has gone: 1 min.
	Patience time.Duration
}

func (r Reader) patience() *patience { return newPatience(r.Patience, r.Notice) }

// Each calls f with the entries that a query asks for, as they come. It
// returns nil behind the last one: for a follower when the instance was
// deleted. The instance is the one that ref names at first, whatever takes its
// name later.
func (r Reader) Each(ctx context.Context, ref string, q api.LogQuery, f func([]api.LogEntry) error) error {
	in, err := r.Aegis.Get(ctx, ref)
	if err != nil {
		return err
	}
	l := &log{Reader: r, id: in.ID, query: q, each: f, patience: r.patience()}
	for {
		err := l.read(ctx)
		switch {
		case err == nil, l.began && api.CodeOf(err) == api.NotFound:
			return nil
		case !q.Follow || ctx.Err() != nil || l.failed || api.CodeOf(err) != api.Unavailable:
			return err
		}
		if !l.began || !l.patience.wait(ctx, err) {
			return err
		}
	}
}

// log is one log that is being read.
type log struct {
	Reader
	id     string
	query  api.LogQuery
	each   func([]api.LogEntry) error
	began  bool // a stream was there once
	failed bool // each did

	patience *patience
}

// read reads one stream; nil is the end of the log.
func (l *log) read(ctx context.Context) error {
	opened := time.Now()
	stream, err := l.Aegis.Logs(ctx, l.id, l.query)
	if err != nil {
		return err
	}
	defer stream.Close()
	l.here(opened)
	for {
		entries, err := stream.Next()
		// Only the stream's own word counts: a connection that breaks may be an
		// EOF somewhere below.
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.each(entries); err != nil {
			l.failed = true
			return err
		}
		l.query.Cursor, l.query.Tail = entries[len(entries)-1].Cursor, nil
	}
}

// here notes that a stream is there. A follower of what comes from now on has
// no cursor before something comes: the time stands for it.
func (l *log) here(opened time.Time) {
	l.patience.here()
	l.began = true
	if q := &l.query; q.Tail != nil && *q.Tail == 0 {
		q.Tail = nil
		if q.Since == nil || q.Since.Before(opened) {
			q.Since = &opened
		}
	}
}
