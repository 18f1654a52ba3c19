package manager_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
	"github.com/xfeldman/aegisvm/vmm/drivers"
	"github.com/xfeldman/aegisvm/vmm/manager"
	"github.com/xfeldman/aegisvm/vmm/manager/managertest"
)

// managerEnv makes this test program a manager that waits to be killed.
const managerEnv = "AEGIS_TEST_MANAGER"

func TestMain(m *testing.M) {
	if settings := os.Getenv(managerEnv); settings != "" {
		if err := beManager(settings); err != nil {
			fmt.Println("failed:", err)
		}
		os.Exit(1)
	}
	if os.Getenv(fakeEnv) != "" {
		fmt.Fprintln(os.Stderr, "failed:", beFake())
		os.Exit(1)
	}
	if os.Getenv(deafEnv) != "" {
		fmt.Println("failed:", beDeaf())
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim is what a manager that is to be killed does: it starts machines, and
// says so when it has or, with Begin, when it has begun to.
type victim struct {
	Dir, Guest, Worker string
	Options            drivers.Options
	IDs                []string
	Begin              bool
}

func beManager(settings string) error {
	var v victim
	if err := json.Unmarshal([]byte(settings), &v); err != nil {
		return err
	}
	d, err := drivers.New(v.Options)
	if err != nil {
		return err
	}
	ctx := context.Background()
	m, err := manager.Open(ctx, manager.Config{
		Dir: v.Dir, Guest: v.Guest, Driver: d, Options: v.Options, Launcher: manager.Children{Binary: v.Worker},
	})
	if err != nil {
		return err
	}
	if v.Begin {
		changes, err := m.Watch(ctx)
		if err != nil {
			return err
		}
		go func() {
			<-changes
			fmt.Println("done")
		}()
	}
	for _, id := range v.IDs {
		if _, err := m.Start(ctx, managertest.Spec(id)); err != nil {
			return err
		}
	}
	fmt.Println("done")
	select {}
}

// killManager runs a manager in a process of its own until it says that it is
// where it should be, and kills it.
func killManager(t *testing.T, c manager.Config, begin bool, ids ...string) {
	t.Helper()
	settings, err := json.Marshal(victim{
		Dir: c.Dir, Guest: c.Guest, Worker: c.Launcher.(manager.Children).Binary, Options: c.Options, IDs: ids, Begin: begin,
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), managerEnv+"="+string(settings))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	cmd.Process.Kill()
	cmd.Wait()
	if err != nil || line != "done\n" {
		t.Fatalf("the manager said %q (%v)", line, err)
	}
}

func TestAKilledManagersMachinesAreTakenOver(t *testing.T) {
	c := realConfig(t)
	killManager(t, c, false, "a", "b")
	m := open(t, c)
	all, err := m.List(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("taken over: %+v (%v)", all, err)
	}
	for _, i := range all {
		if i.State != vmm.StateRunning || !lives(i.Pid) {
			t.Errorf("machine %+v", i)
		}
		if err := m.Stop(t.Context(), i.ID); err != nil {
			t.Error(err)
		}
		if lives(i.Pid) || lives(i.WorkerPid) {
			t.Errorf("machine %s is left", i.ID)
		}
	}
}

func TestWhatAKilledManagerHadBegunIsClearedAway(t *testing.T) {
	c := realConfig(t)
	killManager(t, c, true, "half")
	m := open(t, c)
	if all, err := m.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("taken over: %+v (%v)", all, err)
	}
	if entries, err := os.ReadDir(c.Dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
	if left := processesOf(t, c.Launcher.(manager.Children).Binary, "aegis-half"); len(left) != 0 {
		t.Errorf("left running: %v", left)
	}
	startReal(t, m, "half") // the id is free again
}

// processesOf lists processes whose command line has one of the words.
func processesOf(t *testing.T, words ...string) (found []string) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		raw, _ := os.ReadFile(l)
		for _, w := range words {
			if text := strings.ReplaceAll(string(raw), "\x00", " "); strings.Contains(text, w) {
				found = append(found, text)
			}
		}
	}
	return found
}
