package boot

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new directory; a value that begins with "-> " is
// the target of a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if target, link := strings.CutPrefix(content, "-> "); err == nil && link {
			err = os.Symlink(target, path)
		} else if err == nil {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDisksAreFoundByTheirSerialNumbers(t *testing.T) {
	const dev = "bus/virtio/devices/"
	image := map[string]string{dev + "virtio5/device": "0x0002\n", dev + "virtio5/block/vdb/serial": "image"}
	for name, c := range map[string]struct {
		sysfs   map[string]string
		found   map[string]string
		missing string
	}{
		"letters say nothing": {
			sysfs: map[string]string{dev + "virtio1/device": "0x0002", dev + "virtio1/block/vda/serial": "own\n"},
			found: map[string]string{"image": "/dev/vdb", "own": "/dev/vda"},
		},
		"other devices are none": {
			sysfs: map[string]string{dev + "virtio0/device": "0x0003\n"},
			found: map[string]string{"image": "/dev/vdb"},
		},
		"a disk without a name is nobody's": {
			sysfs: map[string]string{dev + "virtio2/device": "0x0002", dev + "virtio2/block/vdc/serial": "\n"},
			found: map[string]string{"image": "/dev/vdb"},
		},
		"a disk that is still on its way is waited for": {
			sysfs:   map[string]string{dev + "virtio7/device": "0x0002\n"},
			missing: "virtio7",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(image)
			maps.Copy(files, c.sysfs)
			found, missing := scan(tree(t, files))
			if diff := cmp.Diff(c.found, found); diff != "" || missing != c.missing {
				t.Errorf("missing %q, want %q; found (-want +got):\n%s", missing, c.missing, diff)
			}
		})
	}
}

func TestAMachineWithoutDisksWaitsForNone(t *testing.T) {
	if found, missing := scan(t.TempDir()); len(found) != 0 || missing != "" {
		t.Errorf("found %v, missing %q", found, missing)
	}
}

func TestDefaultsCompleteAnImageAndReplaceNothing(t *testing.T) {
	root := tree(t, map[string]string{"etc/hosts": "10.0.0.1 mine\n"})
	if err := defaults(root); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/hosts")); string(b) != "10.0.0.1 mine\n" {
		t.Errorf("the image's hosts became %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(root, "etc/resolv.conf")); len(b) == 0 {
		t.Errorf("no resolv.conf: %v", err)
	}

	link := tree(t, map[string]string{"etc/resolv.conf": "-> ../run/not-there-yet"})
	if err := defaults(link); err != nil {
		t.Fatal(err)
	}
	if target, err := os.Readlink(filepath.Join(link, "etc/resolv.conf")); target != "../run/not-there-yet" {
		t.Errorf("a link that leads nowhere yet became %q, %v", target, err)
	}

	empty := t.TempDir()
	if err := defaults(empty); err != nil {
		t.Fatal(err)
	}
	for name := range missing {
		if _, err := os.Stat(filepath.Join(empty, name)); err != nil {
			t.Errorf("an image without /etc: %v", err)
		}
	}
}
