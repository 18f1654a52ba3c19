package restapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/logwire"
)

// logs sends the entries of a log, flushed whenever no more are at hand. The
// headers go out once the stream stands.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	q, err := logQuery(r.URL.Query())
	if err != nil {
		s.fail(w, err)
		return
	}
	stream, err := s.aegis.Logs(r.Context(), r.PathValue("id"), q)
	if err != nil {
		s.fail(w, err)
		return
	}
	defer stream.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	if out.Flush() == nil {
		logwire.Write(w, out.Flush, stream, false) // a client that has gone is no failure of ours
	}
}

// logQuery reads a query string, strictly.
func logQuery(values url.Values) (q api.LogQuery, err error) {
	for name, all := range values {
		if len(all) != 1 {
			return q, api.Errorf(api.InvalidArgument, "%s: it is given %d times: expected once", name, len(all))
		}
		read, known := logParameters[name]
		if !known {
			return q, api.Errorf(api.InvalidArgument, "unknown parameter %q: expected follow, since, until, tail, source, exec_id or cursor", name)
		}
		if err := read(&q, all[0]); err != nil {
			return q, api.Errorf(api.InvalidArgument, "%s: %w", name, err)
		}
	}
	return q, nil
}

var logParameters = map[string]func(*api.LogQuery, string) error{
	"follow":  func(q *api.LogQuery, v string) (err error) { q.Follow, err = strconv.ParseBool(v); return err },
	"since":   func(q *api.LogQuery, v string) error { return readTime(&q.Since, v) },
	"until":   func(q *api.LogQuery, v string) error { return readTime(&q.Until, v) },
	"source":  func(q *api.LogQuery, v string) error { q.Source = api.LogSource(v); return nil },
	"exec_id": func(q *api.LogQuery, v string) error { q.ExecID = v; return nil },
	"tail": func(q *api.LogQuery, v string) error {
		n, err := strconv.Atoi(v)
		q.Tail = &n
		return err
	},
	"cursor": func(q *api.LogQuery, v string) (err error) {
		q.Cursor, err = strconv.ParseInt(v, 10, 64)
		return err
	},
}

func readTime(to **time.Time, v string) error {
	t, err := time.Parse(time.RFC3339Nano, v)
	*to = &t
	return err
}

// logValues is the other side of logQuery.
func logValues(q api.LogQuery) url.Values {
	v := url.Values{}
	set := func(name, value string, given bool) {
		if given {
			v.Set(name, value)
		}
	}
	set("follow", "1", q.Follow)
	set("source", string(q.Source), q.Source != "")
	set("exec_id", q.ExecID, q.ExecID != "")
	set("cursor", strconv.FormatInt(q.Cursor, 10), q.Cursor != 0)
	if q.Tail != nil {
		set("tail", strconv.Itoa(*q.Tail), true)
	}
	if q.Since != nil {
		set("since", q.Since.Format(time.RFC3339Nano), true)
	}
	if q.Until != nil {
		set("until", q.Until.Format(time.RFC3339Nano), true)
	}
	return v
}

// Logs implements api.Aegis.
func (c *Client) Logs(ctx context.Context, ref string, q api.LogQuery) (api.LogStream, error) {
	path := instance(ref, "/logs")
	if v := logValues(q); len(v) > 0 {
		path += "?" + v.Encode()
	}
	req, err := newRequest(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.ask(req)
	if err != nil {
		return nil, err
	}
	return logwire.NewReader(ctx, resp.Body, false), nil
}
