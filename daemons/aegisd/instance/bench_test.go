package instance_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

// BenchmarkList lists a thousand instances over either transport: at most
// 30 ms each.
func BenchmarkList(b *testing.B) {
	w := newWorld(b)
	for i := range 1000 {
		code := 0
		at := time.Unix(int64(i), 0).UTC()
		err := w.store.Insert(b.Context(), store.Record{
			ID: fmt.Sprintf("inst-%012d", i), Created: at,
			Spec: api.InstanceSpec{
				Handle: fmt.Sprint("job-", i), Command: []string{"python3", "-m", "job", fmt.Sprint(i)},
				Env: map[string]string{"A": "1", "B": "2"}, Labels: map[string]string{"team": "a"},
			},
			Status: store.Status{Phase: api.PhaseStopped, Enabled: true, Generation: 1, Digest: "sha256:00", ExitCode: &code, Started: &at, Stopped: &at},
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	w.restart()
	for name, aegis := range map[string]api.Aegis{"itself": w, "REST": overREST(b, w), "D-Bus": overDBus(b, bustest.Start(b), w)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if all, err := aegis.List(b.Context()); err != nil || len(all) != 1000 {
					b.Fatal(len(all), err)
				}
			}
		})
	}
}
