package worker

import "testing"

func TestARestoreMayFillTheGuestsMemory(t *testing.T) {
	for _, c := range []struct {
		plan Plan
		want int64
	}{
		{Plan{MemoryMiB: 4096}, 512 << 20},
		{Plan{MemoryMiB: 4096, Restore: true}, (512 + 4096) << 20},
	} {
		if got := workerLimit(c.plan); got != c.want {
			t.Errorf("%+v: %d, %d expected", c.plan, got, c.want)
		}
	}
}
