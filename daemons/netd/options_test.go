package main

import (
	"fmt"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args  []string
		pools string
		fails bool
	}{
		{args: nil, pools: "[]"},
		{args: []string{"--pools=10.1.0.0/16,10.2.0.0/24"}, pools: "[10.1.0.0/16 10.2.0.0/24]"},
		{args: []string{"--pools=10.1.0.0/16,"}, fails: true},
		{args: []string{"--pools=10.1.0.1/16"}, fails: true},
		{args: []string{"--pools=2001:db8::/64"}, fails: true},
		{args: []string{"--pools=10.0.0.0/30"}, fails: true},
		{args: []string{"--pools=10.0.0.0/9,10.1.0.0/16"}, fails: true},
		{args: []string{"more"}, fails: true},
		{args: []string{"--nosuch"}, fails: true},
	} {
		o, err := parse(c.args)
		if (err != nil) != c.fails {
			t.Errorf("%v: %v", c.args, err)
		} else if got := fmt.Sprint(o.pools); !c.fails && got != c.pools {
			t.Errorf("%v: pools %s", c.args, got)
		}
	}
}
