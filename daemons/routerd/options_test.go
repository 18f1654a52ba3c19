package main

import (
	"testing"
	"time"
)

func TestOptions(t *testing.T) {
	env := func(string) string { return "/state" }
	o, err := parse([]string{"--ready-timeout", "3s"}, env)
	if err != nil || o.state != "/state" || o.ready != 3*time.Second || o.client != "aegis" {
		t.Errorf("%+v (%v)", o, err)
	}
	for _, args := range [][]string{{"--bogus"}, {"extra"}, {"--ready-timeout", "0s"}, {"--ready-timeout", "1h"}} {
		if _, err := parse(args, env); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
