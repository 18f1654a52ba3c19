package restapi

import (
	_ "embed"
	"net/http"
)

// openAPI describes this API, itself included, for machines.
//
//go:embed openapi.json
var openAPI []byte

func (s *Server) describe(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(openAPI) // a client that has gone is no failure of ours
}
