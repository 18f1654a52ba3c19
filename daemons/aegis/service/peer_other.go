//go:build !linux

package service

import (
	"context"
	"errors"
	"fmt"
)

// peer needs pidfds, which only Linux has.
type peer struct{ pid int }

func peerOf(string) (*peer, error) {
	return nil, fmt.Errorf("stopping aegisd on this system: %w", errors.ErrUnsupported)
}

func (p *peer) terminate() error           { return errors.ErrUnsupported }
func (p *peer) wait(context.Context) error { return errors.ErrUnsupported }
func (p *peer) close()                     {}
