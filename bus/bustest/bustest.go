// Package bustest runs a private dbus-daemon for a test. Everybody may own
// and send everything on it, so that what is denied was denied by the code
// under test. It is for tests only and touches no other bus.
package bustest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/bus"
)

const config = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>%s</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  %s
</busconfig>
`

const permissive = `<policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
  </policy>`

// Start starts a bus and returns its address. It ends with the test. The test
// is skipped where there is no dbus-daemon.
func Start(tb testing.TB) string { return start(tb, permissive) }

// StartWithPolicies starts a bus with the system bus's own defaults and the
// given policy files, to test those.
func StartWithPolicies(tb testing.TB, files ...string) string {
	policy := strings.ReplaceAll(permissive, `<allow own="*"/>`, "")
	policy = strings.ReplaceAll(policy, `<allow send_type="method_call"/>`, `<allow send_destination="org.freedesktop.DBus"/>`)
	for _, f := range files {
		abs, err := filepath.Abs(f)
		if err != nil {
			tb.Fatal(err)
		}
		policy += "\n  <include>" + abs + "</include>"
	}
	return start(tb, policy)
}

func start(tb testing.TB, policy string) string {
	tb.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		tb.Skip("dbus-daemon is not installed: install the package dbus-daemon to run this test")
	}
	dir, err := os.MkdirTemp("", "aegis-bus-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // other users connect, too
		tb.Fatal(err)
	}
	file := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(config, "system", filepath.Join(dir, "bus"), policy)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	return run(tb, exec.Command(daemon, "--config-file="+file, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1"))
}

func run(tb testing.TB, cmd *exec.Cmd) string {
	tb.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	dieWithParent(cmd)
	started, quit, over := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		// The daemon dies with the thread that has started it: this one.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			<-quit
			cmd.Process.Kill()
			cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		close(quit)
		<-over
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatalf("dbus-daemon did not start: %v", err)
	}
	return strings.TrimSpace(address)
}

// Dial connects to a bus; the connection ends with the test, after what it
// registered later.
func Dial(tb testing.TB, address string) *bus.Conn {
	tb.Helper()
	c, err := bus.Dial(context.WithoutCancel(tb.Context()), address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}
