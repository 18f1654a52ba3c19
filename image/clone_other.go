//go:build !linux

package image

import (
	"os"
	"runtime"

	"github.com/xfeldman/aegisvm/api"
)

// cloneFile is not there yet on this system.
func cloneFile(_, _ *os.File) error {
	return api.Errorf(api.Unavailable, "writable disks are not supported on %s yet", runtime.GOOS)
}
