package boot

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/guest/harness/uevent"
)

// Serial numbers of the disks that make the root.
const (
	serialImage = "image"
	serialOwn   = "own"
)

// Root is the root file system that the guest runs in.
type Root struct {
	// own is the writable disk, hidden below the root; nil when there is
	// none.
	own *os.File
}

// Enter makes the root file system and moves into it. Without an image disk
// the initramfs itself is the root; without a disk of its own the machine
// forgets what it writes. Early must have been called.
func Enter(ctx context.Context, events *uevent.Listener) (*Root, error) {
	found, err := disks(ctx, "/sys", events)
	if err != nil {
		return nil, err
	}
	r := &Root{}
	if image := found[serialImage]; image != "" {
		if r.own, err = overlay(image, found[serialOwn]); err != nil {
			return nil, err
		}
		if err := switchRoot("/newroot"); err != nil {
			return nil, err
		}
		if err := Early(); err != nil {
			return nil, err
		}
	}
	if err := populate(); err != nil {
		return nil, err
	}
	return r, defaults("/")
}

// overlay mounts the writable disk over the image on /newroot.
func overlay(image, own string) (*os.File, error) {
	below := []mount{
		{source: image, target: "/image", kind: "erofs", flags: unix.MS_RDONLY | unix.MS_NODEV},
		{source: "own", target: "/own", kind: "tmpfs", flags: unix.MS_NODEV, data: "mode=0755"},
	}
	if own != "" {
		below[1] = mount{source: own, target: "/own", kind: "ext4", flags: unix.MS_NODEV | unix.MS_NOATIME}
	}
	if err := all(below); err != nil {
		return nil, err
	}
	for _, dir := range []string{"/own/upper", "/own/work"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("preparing the writable disk: %w", err)
		}
	}
	top := mount{
		source: "root", target: "/newroot", kind: "overlay",
		data: "lowerdir=/image,upperdir=/own/upper,workdir=/own/work",
	}
	if err := top.mount(); err != nil {
		return nil, err
	}
	f, err := os.Open("/own")
	if err != nil {
		return nil, fmt.Errorf("keeping the writable disk: %w", err)
	}
	return f, nil
}

// switchRoot makes dir the root. What was mounted elsewhere stays mounted out
// of sight.
func switchRoot(dir string) error {
	for _, m := range early {
		if err := unix.Unmount(m.target, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("leaving %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(dir); err != nil {
		return fmt.Errorf("switching the root: %w", err)
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("switching the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("switching the root: %w", err)
	}
	return os.Chdir("/")
}

// Leave writes everything to the disks and makes them read-only. No process
// must be left that writes.
func (r *Root) Leave() {
	unix.Sync()
	unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	if r.own != nil {
		// Read-only means that its journal is empty. A disk that will not be
		// is synced at least, and its journal replayed.
		path := fmt.Sprintf("/proc/self/fd/%d", r.own.Fd())
		unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	}
	unix.Sync()
}
