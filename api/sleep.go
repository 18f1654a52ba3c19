package api

import "time"

// The times of an instance whose idle policy says nothing else.
const (
	DefaultPause     = time.Minute
	DefaultHibernate = 5 * time.Minute
)

// Sleep is where an instance is on its way from running to asleep.
type Sleep struct {
	// InUse says what keeps it awake now, one reason each; what its guest does
	// is not among them, as that is asked for only when all else is idle.
	InUse []string `json:"in_use,omitempty"`
	// Reason is why it sleeps, or what woke it last, and Since when; empty
	// since its start.
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	// Next is the phase that comes next, empty where none does, and NextAt when
	// at the earliest: a guest that is at work is left alone.
	Next   Phase      `json:"next_phase,omitempty"`
	NextAt *time.Time `json:"next_at,omitempty"`
	// Obstacle says why the last step was not taken, or why none comes, and
	// what to do about it.
	Obstacle string `json:"obstacle,omitempty"`
	// SnapshotBytes is what the memory of a hibernated instance takes on disk.
	SnapshotBytes int64 `json:"snapshot_bytes,omitempty"`
}
