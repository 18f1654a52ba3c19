package restapi

import (
	"net/http"
	"os"

	"github.com/xfeldman/aegisvm/api"
)

// Protocol is the word that attach upgrades to.
const Protocol = "aegis-streams"

// maxBody bounds a request body: argv and environment of a Linux program fit
// four times over.
const maxBody = 8 << 20

// statusOf maps error codes onto HTTP status codes, one to one but for
// Exists and BadState, which the code field tells apart.
var statusOf = map[api.Code]int{
	api.NotFound:        http.StatusNotFound,
	api.Exists:          http.StatusConflict,
	api.BadState:        http.StatusConflict,
	api.InvalidArgument: http.StatusBadRequest,
	api.Unavailable:     http.StatusServiceUnavailable,
	api.LimitExceeded:   http.StatusTooManyRequests,
	api.Denied:          http.StatusForbidden,
	api.Internal:        http.StatusInternalServerError,
}

// answer is an instance with the word that old clients look for.
type answer struct {
	Status string `json:"status"`
	*api.Instance
}

// done is the answer of a call that returns nothing.
type done struct {
	Status string `json:"status"`
}

// signalRequest is the body of POST …/signal.
type signalRequest struct {
	Signal int `json:"signal"`
}

// line is one line of the event stream: an event, or the error that ends it.
type line struct {
	api.Event
	Code  api.Code `json:"code,omitempty"`
	Error string   `json:"error,omitempty"`
}

// slots lists the streams in their wire order.
func slots(s *api.Streams) []**os.File {
	return []**os.File{&s.Stdin, &s.Stdout, &s.Stderr, &s.Status, &s.Session, &s.Terminal}
}
