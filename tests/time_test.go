package tests

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// A guest's clock stands while it is paused. That it is put right is shown
// with one that is wrong by years, so that nobody has to wait.
func TestAGuestThatWasPausedHasTheTime(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		for _, args := range [][]string{
			{"instance", "start", "--name", "web", "--", "sleep", "100000"},
			{"exec", "web", "--", "date", "-s", "@1000000000"},
			{"instance", "pause", "web"},
			{"instance", "resume", "web"},
		} {
			if got := aegis(t, h, nil, args...); got.code != 0 {
				t.Fatalf("%v: exit %d, %s", args, got.code, got.stderr)
			}
		}
		got := aegis(t, h, nil, "exec", "web", "--", "date", "+%s")
		says, err := strconv.ParseInt(strings.TrimSpace(got.stdout), 10, 64)
		if off := time.Since(time.Unix(says, 0)); err != nil || off > limit || off < -limit {
			t.Errorf("the guest says that it is %q: wrong by %v, %s", got.stdout, off, got.stderr)
		}
	})
}
