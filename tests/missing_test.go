package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// without is a host that lacks something, and how its CLI is run there.
type without struct {
	*testbed.Host
	aegis string
	env   []string
}

func (w without) run(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := w.Command(ctx, append([]string{w.aegis}, args...)...)
	cmd.Env = append(cmd.Env, w.env...)
	return finish(ctx, t, cmd, nil)
}

// refuses checks that a run there ends with 125 and one line that names the
// remedy, and leaves nothing.
func (w without) refuses(t *testing.T, remedy string) {
	t.Helper()
	if up := w.run(t, "up"); up.code != 0 {
		t.Fatalf("aegis up: %+v", up)
	}
	before := inventory(t, w.Host)
	got := w.run(t, "run", "--", "true")
	if got.code != 125 || got.stdout != "" || !strings.Contains(got.stderr, remedy) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit %d, stdout %q, stderr %q; want 125 and one line with %q", got.code, got.stdout, got.stderr, remedy)
	}
	if after := inventory(t, w.Host); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

func TestAMissingMonitorNamesItsPackage(t *testing.T) {
	const remedy = "qemu-system-x86_64 not found: apt install qemu-system-x86"
	if testing.Short() {
		t.Skip("needs what `make build` makes")
	}
	t.Run("standalone", func(t *testing.T) {
		w := without{testbed.Standalone(t), "aegis", []string{"PATH=/nonexistent"}}
		w.refuses(t, remedy)
		if up := w.run(t, "up"); up.stderr != "WARNING: "+remedy+"\n" {
			t.Errorf("aegis up says %q", up.stderr)
		}
	})
	t.Run("system", func(t *testing.T) {
		h := testbed.System(t)
		if err := os.Remove(filepath.Join(h.Root, "usr/bin/qemu-system-x86_64")); err != nil {
			t.Fatal(err)
		}
		w := without{h, "aegis", nil}
		w.refuses(t, remedy)
		if up := w.run(t, "up"); up.stderr != "WARNING: "+remedy+"\n" {
			t.Errorf("aegis up says %q", up.stderr)
		}
	})
}

func TestAMissingKernelNamesItsPackage(t *testing.T) {
	const remedy = "run make build, or install the package aegisvm"
	if testing.Short() {
		t.Skip("needs what `make build` makes")
	}
	t.Run("standalone", func(t *testing.T) {
		w := without{testbed.Standalone(t), withoutKernel(t), nil}
		w.refuses(t, remedy)
	})
	t.Run("system", func(t *testing.T) {
		h := testbed.System(t)
		if err := os.RemoveAll(filepath.Join(h.Root, "usr/share/aegisvm/guest")); err != nil {
			t.Fatal(err)
		}
		w := without{h, "aegis", nil}
		w.refuses(t, remedy)
	})
}

// withoutKernel is the CLI of a build that has no guest.
func withoutKernel(t *testing.T) string {
	t.Helper()
	root, dir := testbed.Repository(t), t.TempDir()
	share := filepath.Join(dir, "share/aegisvm")
	if err := os.MkdirAll(share, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(root, "share/aegisvm/base"), filepath.Join(share, "base")); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-r", filepath.Join(root, "bin"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "bin/aegis")
}
