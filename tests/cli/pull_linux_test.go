package cli

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// TestPull runs a program from an image in a registry, which needs what the
// unit of aegis-imaged allows of the network.
func TestPull(t *testing.T) {
	if testing.Short() {
		t.Skip("boots real machines")
	}
	for name, host := range map[string]func(testing.TB) *testbed.Host{"standalone": testbed.Standalone, "system": testbed.System} {
		t.Run(name, func(t *testing.T) { pull(t, host(t)) })
	}
}

func pull(t *testing.T, h *testbed.Host) {
	up(t, h)
	r := imagetest.NewRegistryAt(t, h.Listen(t))
	r.PushLayout(t, "base", "1", filepath.Join(testbed.Repository(t), "share/aegisvm/base"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	aegis := func(args ...string) (string, error) {
		out, err := h.Command(ctx, append([]string{"aegis"}, args...)...).CombinedOutput()
		return string(out), err
	}
	ref := r.Host + "/base:1"
	if out, err := aegis("image", "pull", ref); err == nil || !strings.Contains(out, "plain HTTP is not allowed") || len(r.Requests("")) != 0 {
		t.Errorf("a registry without TLS that nobody named: %v: %s", err, out)
	}
	configure := h.Command(ctx, "sh", "-c", map[string]string{
		"system":     "mkdir -p /etc/aegis && cat > /etc/aegis/registries.json",
		"standalone": `cat > "$AEGIS_HOME"/registries.json`,
	}[h.Name])
	configure.Stdin = strings.NewReader(`{"insecure": ["` + r.Host + `"]}`)
	if out, err := configure.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := aegis("run", "--image", ref, "--", "echo", "pulled"); err != nil || !strings.HasSuffix(out, "pulled\n") {
		t.Errorf("run: %v: %s", err, out)
	}
	if out, err := aegis("image", "info", ref); err != nil || !strings.Contains(out, ref) {
		t.Errorf("info: %v: %s", err, out)
	}
}
