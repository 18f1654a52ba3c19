package front

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/guest/proto/forward"
)

// retryAfter is when who could not be served may come again, in seconds.
const retryAfter = "3"

// refuse answers a request that reaches no program, or whose program gives no
// answer: what is wrong, in the words and form of the API.
func (f *Front) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if r.Context().Err() == nil {
		f.log.Info("a request is refused", "status", status, "host", shorten(r.Host), "error", err)
	}
	body := api.Error{Code: codeOf(status, err), Message: wordsOf(err)}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if status == http.StatusServiceUnavailable || status == http.StatusBadGateway {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

func statusOf(err error) int {
	switch {
	case asMisdirected(err):
		return http.StatusMisdirectedRequest
	case errors.Is(err, forward.ErrRefused):
		return http.StatusBadGateway
	case api.CodeOf(err) == api.NotFound:
		return http.StatusNotFound
	case api.CodeOf(err) == api.InvalidArgument:
		return http.StatusBadRequest
	case isUnreached(err), api.CodeOf(err) != api.Internal:
		return http.StatusServiceUnavailable
	}
	return http.StatusBadGateway
}

func asMisdirected(err error) bool {
	_, ok := errors.AsType[misdirected](err)
	return ok
}

func isUnreached(err error) bool {
	_, ok := errors.AsType[unreached](err)
	return ok
}

// codeOf is the word of the API for a refusal.
func codeOf(status int, err error) api.Code {
	switch code := api.CodeOf(err); {
	case status == http.StatusMisdirectedRequest:
		return api.Denied
	case code == api.Internal:
		return api.Unavailable
	default:
		return code
	}
}

// wordsOf says what is wrong, in one line.
func wordsOf(err error) string {
	if isUnreached(err) || api.CodeOf(err) != api.Internal || asMisdirected(err) {
		return strings.TrimSpace(err.Error())
	}
	return fmt.Sprintf("the program in the guest gave no answer: %v", err)
}
