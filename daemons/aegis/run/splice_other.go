//go:build !linux

package run

import "os"

// splice leaves everything to reading and writing: only Linux has it.
func splice(_, _ *os.File) (copied int64, done bool, err error) { return 0, false, nil }
