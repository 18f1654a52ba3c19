//go:build !linux

package archive

import (
	"errors"
	"os"
)

func (l *level) openNameless() (*os.File, error) { return nil, errors.ErrUnsupported }

func (f *fresh) link(string) error { return errors.ErrUnsupported }

func (f *fresh) stamp(e *entry) error { return f.in.stamp(f.temp, e) }
