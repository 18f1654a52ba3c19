package host_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/netd/host"
	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/policy"
)

// TestANetworkIsMadeAndTakenAwayQuickly has 40 other guests beside the one that
// comes and goes. The bound is for a busy machine; the figure is logged.
func TestANetworkIsMadeAndTakenAwayQuickly(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.NewWorld(t)
	n := open(t, host.Options{})
	for i := range 40 {
		plug(t, n, fmt.Sprintf("m-%d", i), policy.Policy{})
	}
	var attach, opening, detach []time.Duration
	for i := range 51 {
		began := time.Now()
		machine := fmt.Sprintf("m-new-%d", i)
		if _, err := n.Attach(t.Context(), machine, policy.Policy{}); err != nil {
			t.Fatal(err)
		}
		a := time.Now()
		f, err := n.OpenTap(t.Context(), machine)
		if err != nil {
			t.Fatal(err)
		}
		b := time.Now()
		f.Close()
		c := time.Now() // what the kernel takes to end a tap is its own
		if err := n.Detach(t.Context(), machine); err != nil {
			t.Fatal(err)
		}
		attach, opening, detach = append(attach, a.Sub(began)), append(opening, b.Sub(a)), append(detach, time.Since(c))
	}
	for what, took := range map[string][]time.Duration{"attach": attach, "tap": opening, "detach": detach} {
		slices.Sort(took)
		t.Logf("%s: median %v, slowest %v", what, took[len(took)/2], took[len(took)-1])
		if took[len(took)/2] > 200*time.Millisecond {
			t.Errorf("%s: the median is %v", what, took[len(took)/2])
		}
	}
}
