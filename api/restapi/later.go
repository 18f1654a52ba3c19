package restapi

import (
	"net/http"

	"github.com/xfeldman/aegisvm/api"
)

// laterRoutes are endpoints of older daemons that this one cannot serve yet.
// Their clients are told so; a 404 would say that the instance is not there.
func (s *Server) laterRoutes() map[string]http.HandlerFunc {
	tether, kits := s.refuse("messages (tether)"), s.refuse("kits")
	return map[string]http.HandlerFunc{
		"POST /v1/instances/{id}/tether":           tether,
		"GET /v1/instances/{id}/tether/stream":     tether,
		"GET /v1/instances/{id}/tether/poll":       tether,
		"GET /v1/instances/{id}/tether/watermark":  tether,
		"POST /v1/instances/{id}/tether/watermark": tether,
		"GET /v1/instances/{id}/kit-config":        kits,
		"POST /v1/instances/{id}/kit-config":       kits,
		"GET /v1/kits":                             kits,
	}
}

// refuse answers Unavailable and says what is not there.
func (s *Server) refuse(what string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		s.fail(w, api.Errorf(api.Unavailable, "this version of aegisd has no %s yet: it answers nothing here", what))
	}
}
