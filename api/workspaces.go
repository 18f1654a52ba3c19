package api

import (
	"context"
	"time"
)

// Workspace is a folder with a name that instances may have for theirs.
type Workspace struct {
	Name string `json:"name"`
	// Path is the folder on the host.
	Path     string `json:"path"`
	OwnerUID uint32 `json:"owner_uid"`
	// ModifiedAt is when a name in it has changed last.
	ModifiedAt time.Time `json:"modified_at"`
	// Instances are the ids of those that have it, running or not.
	Instances []string `json:"instances,omitempty"`
}

// Workspaces is the part of Aegis that keeps folders with names. Instances get
// one by InstanceSpec.Workspace, which also makes it.
type Workspaces interface {
	// Workspaces tells those that there are, by name.
	Workspaces(ctx context.Context) ([]Workspace, error)
	// RemoveWorkspace deletes one with all that is in it; BadState while an
	// instance has it, Denied where it is another user's.
	RemoveWorkspace(ctx context.Context, who Caller, name string) error
	// PruneWorkspaces deletes the caller's that no instance has, or with dryRun
	// only tells them.
	PruneWorkspaces(ctx context.Context, who Caller, dryRun bool) ([]Workspace, error)
}
