package instance

import "time"

// Clock is time as the restart policy sees it; tests have one of their own.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in a goroutine after d, unless stop is called before.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// hostClock is the real one.
type hostClock struct{}

func (hostClock) Now() time.Time { return time.Now() }

func (hostClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

// now is the clock's time, as it is kept and told.
func (s *Service) now() time.Time { return s.Clock.Now().UTC() }
