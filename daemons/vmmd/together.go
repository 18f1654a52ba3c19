package main

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// together runs all until the first fails or ctx ends.
func together(ctx context.Context, all ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range all {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}
