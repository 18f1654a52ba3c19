//go:build !linux

package archive

import "os"

// willNeed leaves it to the kernel.
func willNeed(*os.File, int64, int64) {}
