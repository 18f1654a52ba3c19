package machine

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/guest/proto"
)

// etc reads what is in /etc below root.
func etc(t *testing.T, root string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, "etc"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(root, "etc", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func TestNamesAreWrittenWholeAndReplacedByTheNextIdentity(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/hosts"), []byte("127.0.0.1 localhost"), 0o644); err != nil {
		t.Fatal(err)
	}
	const first, second = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
	for _, c := range []struct {
		name string
		id   *proto.Identity
		want map[string]string
	}{
		{
			"the first", &proto.Identity{Hostname: "web", MachineId: first},
			map[string]string{"hostname": "web\n", "machine-id": first + "\n", "hosts": "127.0.0.1 localhost\n127.0.1.1\tweb\n"},
		},
		{
			"the same again", &proto.Identity{Hostname: "web", MachineId: first},
			map[string]string{"hostname": "web\n", "machine-id": first + "\n", "hosts": "127.0.0.1 localhost\n127.0.1.1\tweb\n"},
		},
		{
			"another, as after a restore", &proto.Identity{Hostname: "clone", MachineId: second},
			map[string]string{"hostname": "clone\n", "machine-id": second + "\n", "hosts": "127.0.0.1 localhost\n127.0.1.1\tclone\n"},
		},
		{
			"with a network", &proto.Identity{Hostname: "web", MachineId: second, Network: &proto.Network{
				Address: []byte{10, 0, 0, 2}, Gateway: []byte{10, 0, 0, 1}, Resolvers: [][]byte{{10, 0, 0, 1}},
			}},
			map[string]string{
				"hostname": "web\n", "machine-id": second + "\n", "resolv.conf": "nameserver 10.0.0.1\n",
				"hosts": "127.0.0.1 localhost\n10.0.0.1\thost.aegis.internal\n127.0.1.1\tweb\n",
			},
		},
		{
			"one without a machine id leaves it", &proto.Identity{Hostname: "x"},
			map[string]string{
				"hostname": "x\n", "machine-id": second + "\n", "resolv.conf": "nameserver 10.0.0.1\n",
				"hosts": "127.0.0.1 localhost\n127.0.1.1\tx\n",
			},
		},
	} {
		if err := writeNames(root, c.id); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := writeResolvers(root, c.id.GetNetwork()); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, etc(t, root)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestAnImageWithoutEtcGetsItsNames(t *testing.T) {
	root := t.TempDir()
	if err := writeNames(root, &proto.Identity{Hostname: "bare"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"hostname": "bare\n"}, etc(t, root)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheFirstToAskForTheEndSetsTheGrace(t *testing.T) {
	m := &Machine{off: make(chan time.Duration, 1)}
	m.Poweroff(time.Second)
	m.Poweroff(time.Hour) // must not block
	if got := <-m.Off(); got != time.Second {
		t.Errorf("grace %v, want that of the first call", got)
	}
}
