package apitest

import (
	"context"
	"os"
	"time"

	"github.com/xfeldman/aegisvm/api"
)

// rejoin is what a client does whose session ended though its streams did
// not; one that closed its session by itself may do so as well.
func (s suite) rejoin() {
	spec := attached("sleep")
	spec.AutoRemove = false
	in := s.create(spec)
	_, err := s.Rejoin(s.Context(), "nosuch")
	s.wantCode("rejoining what is not there", err, api.NotFound)
	_, err = s.Rejoin(s.Context(), in.ID)
	s.wantCode("rejoining before anybody attached", err, api.BadState)
	streams := s.attach(in.ID)
	_, err = s.Rejoin(s.Context(), in.ID)
	s.wantCode("rejoining while the session stands", err, api.BadState)
	streams.Session.Close()
	session := s.rejoined(in.ID)
	if _, err := s.Stop(s.Context(), in.ID); err != nil {
		s.Fatal(err)
	}
	if got := s.read(session); got != "" {
		s.Errorf("the session says %q", got)
	}
	_, err = s.Rejoin(s.Context(), in.ID)
	s.wantCode("rejoining at rest", err, api.BadState)
}

// rejoined asks until aegisd has noticed that the old session is gone.
func (s suite) rejoined(ref string) *os.File {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 10*time.Second)
	defer cancel()
	for {
		session, err := s.Rejoin(ctx, ref)
		if err == nil {
			s.Cleanup(func() { session.Close() })
			return session
		}
		if api.CodeOf(err) != api.BadState {
			s.Fatalf("rejoining: %v", err)
		}
	}
}
