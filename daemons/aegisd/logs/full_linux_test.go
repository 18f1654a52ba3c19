package logs_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/logs"
)

func TestAFullDiskStopsNobodyAndIsTold(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	h := newHome(t)
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", h.dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small file system: %v", err)
	}
	s := logs.New(h.config)
	t.Cleanup(func() {
		s.Close()
		syscall.Unmount(h.dir, syscall.MNT_DETACH)
	})
	ballast := filepath.Join(h.dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	l := s.Log("inst-1")
	for range 5 {
		l.Append(line(strings.Repeat("x", 5000)))
	}
	for range 10 {
		l.Append(line("lost"), line("lost, too"), line(strings.Repeat("y", 9000)))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	l.Append(line("there is room"))
	got := texts(h.read(l, api.LogQuery{}))
	var note string
	for _, g := range got {
		if strings.HasPrefix(g, "[aegis]") {
			note += g
		}
	}
	if got[len(got)-1] != "there is room" || !strings.Contains(note, "are missing here") || !strings.Contains(note, "no space left on device") {
		t.Errorf("read %.200q, note %q", got, note)
	}
}
