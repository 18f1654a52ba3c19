package tests

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// Killing aegisd in the middle of a program's output loses no line of it and
// ends no follower.
func TestAKilledDaemonLosesNoLineOfALog(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		const lines = 100_000
		before := inventory(t, h)
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		_, err := client.Create(t.Context(), api.Caller{}, api.InstanceSpec{
			Handle: "seq", Command: []string{"sh", "-c", fmt.Sprintf(`seq 1 %d; printf 'no newline \377'; exit 3`, lines)},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := h.Command(ctx, "aegis", "logs", "--follow", "seq")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		exited, said := make(chan struct{}), make(chan string, 1)
		go func() { // ends with the follower
			var all strings.Builder
			for in := bufio.NewScanner(stderr); in.Scan(); {
				fmt.Fprintln(&all, in.Text())
				if in.Text() == "[system] process exited (code=3)" {
					close(exited)
				}
			}
			said <- all.String()
		}()
		whole := make(chan string, 1)
		printed := bufio.NewReader(stdout)
		if line, err := printed.ReadString('\n'); line != "1\n" {
			t.Fatalf("the first line is %q, %v", line, err)
		}
		go func() {
			rest, _ := io.ReadAll(printed)
			whole <- "1\n" + string(rest)
		}()
		for range 3 {
			killDaemon(t, h, "aegisd")
			up := aegis(t, h, nil, "up")
			for up.code != 0 && ctx.Err() == nil { // it may still reach the one that was killed
				up = aegis(t, h, nil, "up")
			}
		}
		select {
		case <-exited:
		case all := <-said:
			t.Fatalf("the follower ended: %s", all)
		case <-ctx.Done():
			cmd.Process.Signal(syscall.SIGQUIT)
			t.Log(<-said)
			t.Fatalf("a follower was never told of the program's end: %+v", aegis(t, h, nil, "logs", "--tail", "20", "--source", "system", "seq"))
		}
		var want strings.Builder
		for i := range lines {
			fmt.Fprintln(&want, i+1)
		}
		want.WriteString("no newline \xff")
		if got := aegis(t, h, nil, "logs", "--source", "server", "seq"); got.stdout != want.String() {
			t.Errorf("the log has %d bytes, of %d, or others; %s", len(got.stdout), want.Len(), got.stderr)
		}
		if h.Name == "system" {
			journal := finish(ctx, t, h.Command(ctx, "journalctl", "--quiet", "--output=cat", "AEGIS_HANDLE=seq"), nil)
			if !strings.Contains(journal.stdout, "phase component=instance") {
				t.Errorf("the journal of the instance: %+v", journal)
			}
		}
		if err := client.Delete(ctx, "seq"); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the follower ended with %v", err)
		}
		if got := <-whole; got != want.String() {
			t.Errorf("the follower got %d bytes, of %d, or others", len(got), want.Len())
		}
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}
