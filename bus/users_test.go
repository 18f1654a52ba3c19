package bus_test

import (
	"slices"
	"testing"

	"github.com/xfeldman/aegisvm/bus"
)

func TestUsersAreFoundByNameOrNumber(t *testing.T) {
	for name, want := range map[string][]uint32{"1234": {1234}, "root": {0}, "no such user": nil} {
		got, err := bus.Users(name)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v (%v), %v expected", name, got, err, want)
		}
	}
}
