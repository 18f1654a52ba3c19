package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
)

func TestIdlePolicies(t *testing.T) {
	for text, want := range map[api.IdlePolicy]api.Idle{
		"":                                  {},
		"never":                             {Pause: api.NeverIdle},
		"pause=never":                       {Pause: api.NeverIdle},
		"leases_only":                       {LeasesOnly: true},
		"5m":                                {Pause: 5 * time.Minute},
		"pause=60s,hibernate=5m":            {Pause: time.Minute, Hibernate: 5 * time.Minute},
		"hibernate=never,pause=1s":          {Pause: time.Second, Hibernate: api.NeverIdle},
		"leases_only,pause=1m,hibernate=2h": {LeasesOnly: true, Pause: time.Minute, Hibernate: 2 * time.Hour},
		"5m,budget=1h":                      {Pause: 5 * time.Minute, Budget: time.Hour},
		"budget=never":                      {},
		"never,hibernate=never":             {Pause: api.NeverIdle, Hibernate: api.NeverIdle},
	} {
		got, err := text.Parse()
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v %s", text, err, diff)
		}
	}
}

func TestIdlePoliciesThatMakeNoSense(t *testing.T) {
	for text, want := range map[api.IdlePolicy]string{
		"soon":                                   `"soon"`,
		"10ms":                                   `"10ms"`,
		"-5m":                                    `"-5m"`,
		"pause":                                  `"pause"`,
		"pause=":                                 `"pause="`,
		"sleep=5m":                               `"sleep=5m"`,
		"5m,":                                    `""`,
		"5m,pause=1m":                            "pause is there twice",
		"leases_only,leases_only":                "leases_only is there twice",
		"never,hibernate=5m":                     "never pauses",
		"never,leases_only":                      "never pauses",
		"never,budget=5m":                        "never pauses",
		"budget=0s":                              `"budget=0s"`,
		api.IdlePolicy(strings.Repeat("x", 200)): `expected never`,
	} {
		got, err := text.Parse()
		if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), want) || len(err.Error()) > 250 || got != (api.Idle{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
