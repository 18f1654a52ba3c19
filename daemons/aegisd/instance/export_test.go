package instance

import "github.com/xfeldman/aegisvm/api"

// Watched is what clients see of an instance, and a channel that is closed when
// that changes.
func (s *Service) Watched(ref string) (api.Instance, <-chan struct{}) {
	o, err := s.find(ref)
	if err != nil {
		return api.Instance{}, nil
	}
	changed := *o.changed.Load()
	return *o.view.Load(), changed
}
