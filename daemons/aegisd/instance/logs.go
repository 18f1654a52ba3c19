package instance

import (
	"context"
	"errors"
	"io"

	"github.com/xfeldman/aegisvm/api"
)

// Logs implements api.Aegis.
func (s *Service) Logs(ctx context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	if err := checkLogQuery(q); err != nil {
		return nil, err
	}
	o, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(errClosing()) })
	stream, err := o.log.Read(ctx, q)
	if err != nil {
		stop()
		cancel(nil)
		return nil, atBoundary(err)
	}
	return &logStream{stream, func() { stop(); cancel(nil) }}, nil
}

// logStream ends with the service and has the errors of a boundary.
type logStream struct {
	api.LogStream
	letGo func()
}

// Next implements api.LogStream.
func (s *logStream) Next() ([]api.LogEntry, error) {
	entries, err := s.LogStream.Next()
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return entries, err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, api.Errorf(api.Unavailable, "request given up: %w", err)
	}
	return nil, atBoundary(err)
}

// Close implements api.LogStream.
func (s *logStream) Close() error {
	s.letGo()
	return s.LogStream.Close()
}

func checkLogQuery(q api.LogQuery) error {
	switch {
	case q.Tail != nil && *q.Tail < 0:
		return invalid("tail of %d entries: expected 0 or more", *q.Tail)
	case q.Cursor < 0:
		return invalid("cursor %d: expected that of an entry that was read before", q.Cursor)
	case q.Source != "" && q.Source != api.LogServer && q.Source != api.LogExec && q.Source != api.LogSystem:
		return invalid("source %q: expected server, exec or system", shorten(string(q.Source)))
	case q.Since != nil && q.Until != nil && q.Until.Before(*q.Since):
		return invalid("until is before since: expected a later time")
	}
	return nil
}
