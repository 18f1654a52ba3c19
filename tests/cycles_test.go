package tests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// cyclesEnv says how often a real instance is put to sleep: 1000 takes an hour.
const cyclesEnv = "AEGIS_TEST_CYCLES"

// TestNobodyNoticesThatARealInstanceSleeps puts an instance to sleep and wakes it
// at random while clients use it: none is refused, and none loses a byte.
func TestNobodyNoticesThatARealInstanceSleeps(t *testing.T) {
	cycles := 10
	if text := os.Getenv(cyclesEnv); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("%s=%s: expected a number", cyclesEnv, text)
		}
		cycles = n
	}
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		e := shouting(t, h)
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		var clients sync.WaitGroup
		come := func(n int, when string) {
			for i := range n {
				clients.Go(func() {
					word := fmt.Sprintf("client %d, %s", i, when)
					c, err := dial(h, e)
					if err != nil {
						t.Errorf("%s: %v", word, err)
						return
					}
					if got, err := say(c, word); err != nil || got != strings.ToUpper(word) {
						t.Errorf("%s: %q (%v)", word, got, err)
					}
				})
			}
		}
		random := rand.New(rand.NewPCG(3, 4))
		slept := map[api.Phase]int{}
		for cycle := range cycles {
			come(random.IntN(3), fmt.Sprint("before cycle ", cycle))
			sleep := client.Pause
			if cycle%2 == 1 {
				clients.Wait()
				sleep = client.Hibernate
			}
			in, err := sleep(t.Context(), "web")
			if err != nil && api.CodeOf(err) != api.BadState { // somebody came
				t.Fatal(err)
			}
			if err == nil {
				slept[in.Phase]++
			}
			come(1+random.IntN(3), fmt.Sprint("after cycle ", cycle))
			if _, err := client.Resume(t.Context(), "web"); err != nil { // for those that a pause has caught
				t.Fatal(err)
			}
		}
		clients.Wait()
		if in := info(t, h); in.Starts != 1 || slept[api.PhaseHibernated] == 0 {
			t.Errorf("slept %v: %+v", slept, in)
		}
		t.Logf("slept %v", slept)
	})
}
