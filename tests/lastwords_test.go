package tests

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// The program fills everything between itself and a reader that does not
// read, says so and ends with code 0. What is in the guest then dies with the
// machine.
func TestOutputThatDiedWithItsMachineFailsTheRun(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		before := inventory(t, h)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := h.Command(ctx, "aegis", "run", "--", "sh", "-c", "cat /dev/zero & sleep 2; kill $!; wait; echo full >&2; exit 0")
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stderr := bufio.NewReader(out)
		if line, err := stderr.ReadString('\n'); line != "full\n" {
			t.Fatalf("the program said %q (%v)", line, err)
		}
		for !strings.Contains(aegis(t, h, nil, "status", "-o", "json").stdout, `"exit_code"`) && ctx.Err() == nil {
			continue // its end is known a moment later
		}
		killMachines(t, h, "monitor")
		if _, err := io.Copy(io.Discard, stdout); err != nil {
			t.Error(err)
		}
		said, err := io.ReadAll(stderr)
		if err != nil {
			t.Error(err)
		}
		cmd.Wait()
		// The machine may go before its word of the end has come to the client.
		missing := strings.Contains(string(said), "standard output of the program broke off after") ||
			strings.Contains(string(said), "the machine went before all that the program wrote had come")
		if code := cmd.ProcessState.ExitCode(); code != 125 || !missing {
			t.Errorf("exit %d, stderr %q; want 125, and that output is missing", code, said)
		}
		if after := inventory(t, h); after != before {
			t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
		}
	})
}
