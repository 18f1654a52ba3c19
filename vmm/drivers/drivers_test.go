package drivers

import (
	"runtime"
	"strings"
	"testing"
)

func TestWhatIsMissingIsTheDistributionsMonitor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the drivers are for Linux")
	}
	t.Setenv("PATH", t.TempDir())
	for set, want := range map[string]string{"": "qemu", "qemu": "qemu", "cloudhypervisor": "cloudhypervisor"} {
		o, d, err := Choose(t.Context(), func(name string) string {
			if name == EnvDriver {
				return set
			}
			return ""
		})
		if err != nil || o.Name != want || d.Name() != want {
			t.Errorf("%s=%q chooses %q (%v), %q expected", EnvDriver, set, o.Name, err, want)
			continue
		}
		if s, err := d.Probe(t.Context()); err != nil || s.Missing == "" {
			t.Errorf("%s misses nothing on an empty path (%v)", want, err)
		}
	}
}

func TestAnUnknownDriverIsRefused(t *testing.T) {
	_, _, err := Choose(t.Context(), func(string) string { return "bochs" })
	if err == nil || !strings.Contains(err.Error(), `unknown machine driver "bochs"`) {
		t.Errorf("error %v", err)
	}
}
