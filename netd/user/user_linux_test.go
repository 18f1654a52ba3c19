package user_test

import (
	"slices"
	"testing"

	"github.com/xfeldman/aegisvm/netd/nettest"
	"github.com/xfeldman/aegisvm/netd/user"
)

func TestContract(t *testing.T) {
	if nettest.Isolated(t) {
		nettest.ContractWithoutTaps(t, open(t, user.Options{DNS: true}))
	}
}

func TestGuestsAreKeptIn(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.AllowPings(t)
	w := nettest.NewWorld(t)
	nettest.NewProbed(w, open(t, user.Options{DNS: true})).KeptIn(nettest.Probes())
}

func TestGuestsGetWhatTheyMay(t *testing.T) {
	if !nettest.Isolated(t) {
		return
	}
	nettest.AllowPings(t)
	w := nettest.NewWorld(t)
	p := nettest.NewProbed(w, open(t, user.Options{DNS: true}))
	p.Get(slices.DeleteFunc(slices.Clone(nettest.Wants), func(want nettest.Want) bool {
		// Names are answered by this process, which another test asks.
		return want.Name == "names at the gateway"
	}))
}
