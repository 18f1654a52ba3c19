package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/xfeldman/aegisvm/guest/harness/uevent"
)

// virtioBlock is the device type that sysfs tells.
const virtioBlock = "0x0002"

// disks maps the serial number of each virtio disk to its device. It waits
// until every disk that the bus has is a block device.
func disks(ctx context.Context, sys string, events *uevent.Listener) (map[string]string, error) {
	for {
		found, missing := scan(sys)
		if missing == "" {
			return found, nil
		}
		if err := events.Wait(ctx); err != nil {
			return nil, fmt.Errorf("waiting for disk %s: %w", missing, err)
		}
	}
}

// scan looks once; missing names a disk that has no block device yet.
func scan(sys string) (found map[string]string, missing string) {
	found = map[string]string{}
	types, _ := filepath.Glob(filepath.Join(sys, "bus/virtio/devices/*/device"))
	for _, t := range types {
		dir := filepath.Dir(t)
		if b, err := os.ReadFile(t); err != nil || strings.TrimSpace(string(b)) != virtioBlock {
			continue
		}
		serials, _ := filepath.Glob(filepath.Join(dir, "block/*/serial"))
		if len(serials) == 0 {
			return nil, filepath.Base(dir)
		}
		b, err := os.ReadFile(serials[0])
		if err != nil {
			return nil, filepath.Base(dir)
		}
		if serial := strings.TrimSpace(string(b)); serial != "" {
			found[serial] = "/dev/" + filepath.Base(filepath.Dir(serials[0]))
		}
	}
	return found, ""
}
