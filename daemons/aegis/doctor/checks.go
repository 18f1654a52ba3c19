package doctor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

func ok(format string, args ...any) Finding {
	return Finding{Level: OK, Text: fmt.Sprintf(format, args...)}
}

// install is the remedy that brings a package.
func install(debian, fedora string) string {
	return fmt.Sprintf("apt install %s (Debian), dnf install %s (Fedora)", debian, fedora)
}

// kernel looks for what a guest boots from.
func (h Host) kernel(context.Context) Finding {
	for _, name := range []string{"lean", "distro"} {
		dir := filepath.Join(h.Share, "guest", name)
		if exists(filepath.Join(dir, "kernel")) && exists(filepath.Join(dir, "initramfs.cpio")) {
			return ok("%s, with its initramfs", filepath.Join(dir, "kernel"))
		}
	}
	return Finding{
		Level: Fail, Text: "no kernel with an initramfs in " + filepath.Join(h.Share, "guest"),
		Remedy: "make build in the source tree, or install the aegisvm package again",
	}
}

func (h Host) baseImage(context.Context) Finding {
	dir := filepath.Join(h.Share, "base")
	if exists(filepath.Join(dir, "index.json")) {
		return ok("%s", dir)
	}
	return Finding{
		Level: Warn, Text: "no OCI layout in " + dir + ": run needs --image",
		Remedy: "make base-image in the source tree, or install the aegisvm package again",
	}
}

func (h Host) mkfs(context.Context) Finding {
	for _, name := range []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if path, err := h.LookPath(name); err == nil {
			return ok("%s", path)
		}
	}
	return Finding{Level: Fail, Text: "mkfs.ext4 not found", Remedy: install("e2fsprogs", "e2fsprogs")}
}

// The space in MiB below which an instance cannot start, or soon will not.
const (
	tooFull = 256
	tight   = 2048
)

func (h Host) space(context.Context) Finding {
	dir := h.State
	for dir != "/" && !exists(dir) {
		dir = filepath.Dir(dir)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return Finding{Level: Warn, Text: fmt.Sprintf("%s: %v", dir, err), Remedy: "look at the file system"}
	}
	free := st.Bavail * uint64(st.Bsize) >> 20
	f := ok("%d MiB free for %s", free, h.State)
	switch {
	case free < tooFull:
		f.Level, f.Remedy = Fail, "make room, or move the state with AEGIS_HOME"
	case free < tight:
		f.Level, f.Remedy = Warn, "make room, or move the state with AEGIS_HOME"
	}
	return f
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
