package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/vmm"
)

// maxRecord bounds exit.json, which a worker wrote that a guest may have
// taken over.
const maxRecord = 64 << 10

// writeExit writes exit.json into dir so that it is there whole or not at
// all. The directory is a descriptor because the jail may not know its path.
func writeExit(dir *os.File, e vmm.Exit) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("recording the exit: %w", err)
	}
	const temporary = ".exit.json.new"
	at := int(dir.Fd())
	fd, err := unix.Openat(at, temporary, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("creating %s: %w", ExitName, err)
	}
	f := os.NewFile(uintptr(fd), temporary)
	_, err = f.Write(append(raw, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", ExitName, err)
	}
	if err := unix.Renameat(at, temporary, at, ExitName); err != nil {
		return fmt.Errorf("naming %s: %w", ExitName, err)
	}
	return nil
}

// ReadExit reads the exit record of a machine whose worker is gone. It trusts
// nothing: no symbolic link, no size, no reason that is not one of ours. The
// error wraps os.ErrNotExist when there is none.
func ReadExit(path string) (vmm.Exit, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return vmm.Exit{}, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return vmm.Exit{}, fmt.Errorf("reading %s: a regular file expected", path)
	}
	var e vmm.Exit
	if err := json.NewDecoder(io.LimitReader(f, maxRecord)).Decode(&e); err != nil {
		return vmm.Exit{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return cleanExit(e)
}

// cleanExit makes what a worker said of its end presentable.
func cleanExit(e vmm.Exit) (vmm.Exit, error) {
	switch e.Reason {
	case vmm.ReasonPoweroff, vmm.ReasonShutdown, vmm.ReasonStopped, vmm.ReasonPanic, vmm.ReasonCrashed, vmm.ReasonNeverReady, vmm.ReasonWorkerLost:
	default:
		return vmm.Exit{}, fmt.Errorf("exit record has the unknown reason %q", e.Reason)
	}
	e.Detail = printable(e.Detail, maxDetail)
	return e, nil
}

// maxDetail bounds an exit's detail in bytes.
const maxDetail = 2000

// printable makes one line of text that came from a guest.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}

// consoleTail is the last lines of a console file, on one line.
func consoleTail(console *os.File) string {
	const window, lines = 4096, 5
	fi, err := console.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, window)
	n, _ := console.ReadAt(buf, max(0, fi.Size()-window))
	var last []string
	for _, l := range bytes.Split(buf[:n], []byte("\n")) {
		if text := strings.TrimSpace(printable(string(l), 300)); text != "" {
			last = append(last, text)
		}
	}
	return strings.Join(last[max(0, len(last)-lines):], " | ")
}
