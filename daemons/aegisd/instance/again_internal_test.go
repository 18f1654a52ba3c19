package instance

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegisd/store"
)

func TestPolicyDecides(t *testing.T) {
	now := time.Unix(1_700_000_000, 0).UTC()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	in := func(d time.Duration) *time.Time { due := now.Add(d); return &due }
	old := []time.Time{ago(100 * time.Second), ago(90 * time.Second), ago(80 * time.Second), ago(70 * time.Second), ago(60 * time.Second)}
	for name, c := range map[string]struct {
		policy api.RestartPolicy
		have   store.Revival
		failed bool
		ran    time.Duration
		want   store.Revival
		gaveUp bool
	}{
		"never":                      {policy: api.RestartNever, failed: true},
		"on demand":                  {policy: api.RestartOnDemand, failed: true},
		"an older record":            {policy: "", failed: true},
		"on-failure of a good one":   {policy: api.RestartOnFailure},
		"on-failure":                 {policy: api.RestartOnFailure, failed: true, want: store.Revival{Step: 1, Due: in(time.Second)}},
		"always of a good one":       {policy: api.RestartAlways, want: store.Revival{Step: 1, Due: in(time.Second)}},
		"the third":                  {policy: api.RestartAlways, have: store.Revival{Step: 2, Count: 2}, want: store.Revival{Step: 3, Count: 2, Due: in(4 * time.Second)}},
		"the sixth":                  {policy: api.RestartAlways, have: store.Revival{Step: 5}, want: store.Revival{Step: 6, Due: in(32 * time.Second)}},
		"the seventh":                {policy: api.RestartAlways, have: store.Revival{Step: 6}, want: store.Revival{Step: 6, Due: in(time.Minute)}},
		"a long run forgets":         {policy: api.RestartOnFailure, failed: true, ran: time.Minute, have: store.Revival{Step: 6, Tries: old}, want: store.Revival{Step: 1, Due: in(time.Second)}},
		"a shorter one does not":     {policy: api.RestartAlways, ran: 59 * time.Second, have: store.Revival{Step: 1}, want: store.Revival{Step: 2, Due: in(2 * time.Second)}},
		"five tries are enough":      {policy: api.RestartOnFailure, failed: true, have: store.Revival{Step: 5, Tries: old}, want: store.Revival{Step: 5, Tries: old, Halted: true}, gaveUp: true},
		"always does not give up":    {policy: api.RestartAlways, failed: true, have: store.Revival{Step: 5, Tries: old}, want: store.Revival{Step: 6, Tries: old, Due: in(32 * time.Second)}},
		"tries grow old":             {policy: api.RestartOnFailure, failed: true, have: store.Revival{Step: 5, Tries: append([]time.Time{ago(2 * time.Minute)}, old[1:]...)}, want: store.Revival{Step: 6, Tries: old[1:], Due: in(32 * time.Second)}},
		"a halted one stays":         {policy: api.RestartAlways, failed: true, have: store.Revival{Halted: true}, want: store.Revival{Halted: true}},
		"what is due is not put off": {policy: api.RestartAlways, have: store.Revival{Step: 1, Due: in(1)}, want: store.Revival{Step: 1, Due: in(1)}},
	} {
		got, gaveUp := nextTry(c.policy, c.have, c.failed, c.ran, now)
		if diff := cmp.Diff(c.want, got); diff != "" || gaveUp != c.gaveUp {
			t.Errorf("%s: gave up %v, %s", name, gaveUp, diff)
		}
	}
}
