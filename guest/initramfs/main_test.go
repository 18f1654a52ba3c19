package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// build makes an archive of a harness with the given bytes.
func build(t *testing.T, harness string, more []byte) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	init, out, extra := filepath.Join(dir, "init"), filepath.Join(dir, "out"), ""
	if err := os.WriteFile(init, []byte(harness), 0o600); err != nil {
		t.Fatal(err)
	}
	if more != nil {
		extra = filepath.Join(dir, "more")
		if err := os.WriteFile(extra, more, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := run(init, out, extra); err != nil {
		if _, err := os.Stat(out); err == nil {
			t.Error("a failed run left an archive")
		}
		return nil, err
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b, nil
}

// cpio runs the archiver on b.
func cpio(t *testing.T, b []byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("cpio is missing: run `make deps-test` first")
	}
	c := exec.Command("cpio", args...)
	c.Stdin, c.Dir = bytes.NewReader(b), t.TempDir()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestCpioReadsTheArchive(t *testing.T) {
	b, err := build(t, "the harness", nil)
	if err != nil {
		t.Fatal(err)
	}
	list := cpio(t, b, "--list", "--verbose", "--numeric-uid-gid", "--quiet")
	for _, want := range []string{
		"drwxr-xr-x   2 0        0               0 Jan  1  1970 dev",
		"crw-------   1 0        0          5,   1 Jan  1  1970 dev/console",
		"crw-rw-rw-   1 0        0          1,   3 Jan  1  1970 dev/null",
		"-rwxr-xr-x   1 0        0              11 Jan  1  1970 init",
		" newroot", " proc", " sys",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("%q is missing in\n%s", want, list)
		}
	}
	if got := cpio(t, b, "--extract", "--to-stdout", "--quiet", "init"); got != "the harness" {
		t.Errorf("init holds %q", got)
	}
}

func TestTheSameInputMakesTheSameBytes(t *testing.T) {
	a, err := build(t, "the harness", nil)
	b, err2 := build(t, "the harness", nil)
	if err != nil || err2 != nil || !bytes.Equal(a, b) {
		t.Fatalf("archives of %d and %d bytes differ (%v, %v)", len(a), len(b), err, err2)
	}
}

func TestAnotherArchiveIsAppendedAligned(t *testing.T) {
	more, err := build(t, "other", nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := build(t, "the harness!!", more)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(got, more) || (len(got)-len(more))%4 != 0 {
		t.Errorf("%d bytes, of which %d of the other archive", len(got), len(more))
	}
}

func TestWhatIsNoArchiveIsNotAppended(t *testing.T) {
	for _, more := range []string{"", "\x1f\x8b compressed"} {
		_, err := build(t, "the harness", []byte(more))
		if err == nil || !strings.Contains(err.Error(), "newc archive") {
			t.Errorf("appending %q: %v", more, err)
		}
	}
}
