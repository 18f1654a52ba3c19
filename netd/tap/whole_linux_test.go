package tap

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestAListThatChangesIsAskedForAgain(t *testing.T) {
	failed := errors.New("no")
	for name, c := range map[string]struct {
		answers []error // the last one again and again
		asked   int
	}{
		"at once":     {[]error{nil}, 1},
		"later":       {[]error{netlink.ErrDumpInterrupted, netlink.ErrDumpInterrupted, nil}, 3},
		"never":       {[]error{netlink.ErrDumpInterrupted}, listings},
		"not at all":  {[]error{failed}, 1},
		"then failed": {[]error{netlink.ErrDumpInterrupted, failed}, 2},
	} {
		asked := 0
		_, err := whole(func() ([]int, error) {
			asked++
			return nil, c.answers[min(asked, len(c.answers))-1]
		})
		if want := c.answers[len(c.answers)-1]; asked != c.asked || !errors.Is(err, want) {
			t.Errorf("%s: asked %d times, %v; want %d, %v", name, asked, err, c.asked, want)
		}
	}
}
