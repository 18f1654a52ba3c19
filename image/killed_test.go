package image_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// TestMain lets the test program be a process that is killed while it works.
func TestMain(m *testing.M) {
	if dir := os.Getenv("AEGIS_TEST_PULLS"); dir != "" {
		pullUntilKilled(dir, os.Getenv("AEGIS_TEST_REGISTRY"), os.Getenv("AEGIS_TEST_REF"))
	}
	if dir := os.Getenv("AEGIS_TEST_STORE"); dir != "" {
		workUntilKilled(dir, os.Getenv("AEGIS_TEST_LAYOUT"))
	}
	os.Exit(m.Run())
}

// workUntilKilled says when it starts something.
func workUntilKilled(dir, layout string) {
	s, err := image.Open(dir, image.Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i++ {
		fmt.Println("disk")
		if err := s.CreateDisk(context.Background(), fmt.Sprintf("d%d-%d", os.Getpid(), i), image.DiskSize); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("image")
		if _, err := s.Prepare(context.Background(), layout, func(p image.Progress) { fmt.Println(p.Stage) }); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func TestAProcessKilledAnywhereLeavesAWholeStore(t *testing.T) {
	t.Parallel()
	dir, layout := t.TempDir(), imagetest.Layout(t, noise(200))
	for lines := 1; lines <= 16; lines++ {
		killAfter(t, dir, layout, lines)
		s := open(t, dir, image.Options{})
		ids, err := s.Disks(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			whole(t, s, id)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*/.tmp-*")); len(left) > 0 {
			t.Errorf("not swept: %q", left)
		}
		s.Close()
	}
	if _, err := open(t, dir, image.Options{}).Prepare(t.Context(), layout, nil); err != nil {
		t.Error(err)
	}
}

// killAfter starts a process and kills it when it has said so many lines.
func killAfter(t *testing.T, dir, layout string, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "AEGIS_TEST_STORE="+dir, "AEGIS_TEST_LAYOUT="+layout)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for said := bufio.NewScanner(out); lines > 0 && said.Scan(); lines-- {
		if said.Text() != "disk" && said.Text() != "image" && !strings.Contains("resolving building ready", said.Text()) {
			t.Error(said.Text())
		}
	}
	// With its children: one that has not become mke2fs yet holds its locks.
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	io.Copy(io.Discard, out) // until the last of them has gone
	cmd.Wait()
}

// whole fails unless the disk is a complete file system.
func whole(t *testing.T, s image.Store, id string) {
	t.Helper()
	f, err := s.OpenDisk(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if out, err := exec.Command("/sbin/e2fsck", "-fn", f.Name()).CombinedOutput(); err != nil {
		t.Errorf("disk %s: %v: %s", id, err, out)
	}
	if err := s.DeleteDisk(t.Context(), id); err != nil {
		t.Error(err)
	}
}
