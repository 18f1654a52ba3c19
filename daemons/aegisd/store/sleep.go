package store

import "time"

// Sleep is what is known of the sleep of an instance. It is zero after a start.
type Sleep struct {
	// Reason is why it was put to sleep, or what woke it last; Since is when.
	Reason string     `json:"reason,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	// Idle is whether it was put to sleep because nobody used it.
	Idle bool `json:"idle,omitempty"`
	// Snapshot is what a hibernated instance goes on from; Bytes is what it
	// takes on disk, Monitor what wrote it.
	Snapshot string `json:"snapshot,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
	Monitor  string `json:"monitor,omitempty"`
	// Origin is the machine that the guest booted in, by which its workspace and
	// its network go; empty where it still is in that.
	Origin string `json:"origin,omitempty"`
	// Unaware is whether its guest goes on in another machine and has not been
	// told of it.
	Unaware bool `json:"unaware,omitempty"`
}

// Lease is a client's word that an instance is needed. It is zero without one
// and after a start.
type Lease struct {
	Until  *time.Time `json:"until,omitempty"`
	Reason string     `json:"reason,omitempty"`
}
