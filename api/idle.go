package api

import (
	"strings"
	"time"
)

// IdlePolicy says when an instance without activity sleeps: words and times
// with commas between them. "never" keeps it awake, "leases_only" counts only
// leases and connections as activity, "pause=60s" stops its processors after a
// minute, "hibernate=5m" puts its memory on disk five minutes later; either
// time may be "never", and "5m" alone is "pause=5m". With "budget=1h" what its
// programs do keeps it awake for an hour at most after somebody outside has used
// it last. Empty means the defaults, and no budget.
type IdlePolicy string

// Idle is what an IdlePolicy says.
type Idle struct {
	LeasesOnly bool
	// Pause and Hibernate are 0 where the defaults hold and NeverIdle where it
	// is not done.
	Pause, Hibernate time.Duration
	// Budget is 0 where there is none.
	Budget time.Duration
}

const (
	// NeverIdle is the time of what is not done.
	NeverIdle = time.Duration(-1)
	// ShortestIdle keeps a guest from being put to sleep between two packets.
	ShortestIdle = time.Second
)

// Parse reads a policy.
func (p IdlePolicy) Parse() (idle Idle, err error) {
	if p == "" {
		return idle, nil
	}
	seen := map[string]bool{}
	for word := range strings.SplitSeq(string(p), ",") {
		key, err := idle.set(word)
		if err != nil {
			return Idle{}, err
		}
		if seen[key] {
			return Idle{}, Errorf(InvalidArgument, "idle_policy %q: %s is there twice: say it once", p.short(), key)
		}
		seen[key] = true
	}
	if idle.Pause == NeverIdle && (idle.Hibernate > 0 || idle.LeasesOnly || idle.Budget > 0) {
		return Idle{}, Errorf(InvalidArgument, "idle_policy %q: what never pauses does nothing later: leave never out or the rest", p.short())
	}
	return idle, nil
}

// set takes one word and returns what it is about.
func (i *Idle) set(word string) (key string, err error) {
	switch word {
	case "leases_only":
		i.LeasesOnly = true
		return word, nil
	case "never":
		i.Pause = NeverIdle
		return "pause", nil
	}
	key, text, pair := strings.Cut(word, "=")
	if !pair {
		key, text = "pause", word
	}
	after := NeverIdle
	if text != "never" {
		after, err = time.ParseDuration(text)
	}
	switch {
	case err != nil, key != "pause" && key != "hibernate" && key != "budget", text != "never" && after < ShortestIdle:
		return "", Errorf(InvalidArgument, "idle_policy %q: expected never, leases_only, pause=TIME, hibernate=TIME or budget=TIME with times of at least %v such as 5m",
			IdlePolicy(word).short(), ShortestIdle)
	case key == "pause":
		i.Pause = after
	case key == "hibernate":
		i.Hibernate = after
	default:
		i.Budget = max(after, 0) // one that never ends is none
	}
	return key, nil
}

// short keeps a hostile value from filling a terminal.
func (p IdlePolicy) short() string { return string(p[:min(len(p), 80)]) }
