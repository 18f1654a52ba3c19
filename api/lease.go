package api

import "time"

// Lease says that an instance is needed for a while though nobody has a
// connection or a stream of it.
type Lease struct {
	// TTLMS is for how many milliseconds from now on, DefaultLease for 0, at
	// most LongestLease.
	TTLMS int64 `json:"ttl_ms,omitempty"`
	// Reason is what people are told who ask why it is awake: up to 200 bytes
	// of printable text.
	Reason string `json:"reason,omitempty"`
}

// The lengths of leases.
const (
	DefaultLease = 30 * time.Second
	LongestLease = 24 * time.Hour
)

// Leased is what clients see of a lease.
type Leased struct {
	LeaseHeld      bool       `json:"lease_held,omitempty"`
	LeaseReason    string     `json:"lease_reason,omitempty"`
	LeaseExpiresAt *time.Time `json:"lease_expires_at,omitempty"`
}
