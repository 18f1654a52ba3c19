package tests

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// canary is a value that is easy to look for.
func canary() string {
	b := make([]byte, 16)
	rand.Read(b)
	return "canary-" + hex.EncodeToString(b)
}

// on runs a shell script on a host. What it reads is no argument of anything.
func on(t *testing.T, h *testbed.Host, stdin, script string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return finish(ctx, t, h.Command(ctx, append([]string{"sh", "-c", script, "sh"}, args...)...), strings.NewReader(stdin))
}

// must is for commands of the CLI that have to work.
func must(t *testing.T, h *testbed.Host, stdin string, args ...string) string {
	t.Helper()
	got := aegis(t, h, strings.NewReader(stdin), args...)
	if got.code != 0 {
		t.Fatalf("aegis %s: %+v", strings.Join(args, " "), got)
	}
	return got.stdout
}

// whereabouts are where a secret could have got to, on a host: files of ours,
// what processes were started with, and the journal. The sparse disks of guests
// are what programs wrote.
const whereabouts = `
pattern=$(mktemp) && cat >"$pattern" && trap 'rm -f "$pattern"' EXIT
grep -rlaF --exclude-dir=disks --exclude=disk.erofs -f "$pattern" "$1" /run/aegis /var/lib/systemd/coredump 2>/dev/null
grep -laF -f "$pattern" /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null
[ ! -d /run/systemd/system ] || ! journalctl --no-pager --output=export | grep -qaF -f "$pattern" || echo journal
true
`

// cores tells the size of a core that the daemons may leave.
const cores = `for p in $(pgrep -f '[a]egis-vmm-worker'; pgrep -x aegisd); do grep "Max core file size" /proc/$p/limits; done | sort -u`

func TestASecretIsInItsProgramAndNowhereElse(t *testing.T) {
	onEveryHost(t, func(t *testing.T, h *testbed.Host) {
		value := canary()
		state := map[string]string{"standalone": h.Home, "system": "/var/lib/aegis"}[h.Name]
		events, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		told := beside(events, t, h, "events", "-o", "json")
		must(t, h, value+"\n", "secret", "set", "KEY", "-")
		must(t, h, "", "instance", "start", "-q", "--name", "web", "--env", "KEY", "--", "sh", "-c", "echo ${#KEY}; exec sleep 1000")
		killDaemon(t, h, "aegisd")
		must(t, h, "", "up")
		if got := must(t, h, "", "exec", "web", "--", "printenv", "KEY"); got != value+"\n" {
			t.Errorf("after a restart of aegisd the program gets %q", got)
		}
		for _, where := range [][]string{
			{"instance", "info", "web", "-o", "json"},
			{"logs", "web"},
			{"exec", "web", "--", "cat", "/proc/cmdline"},
			{"secret", "list"},
			{"status", "-o", "json"},
		} {
			if strings.Contains(must(t, h, "", where...), value) {
				t.Errorf("aegis %s tells it", strings.Join(where, " "))
			}
		}
		if got := on(t, h, value+"\n", whereabouts, state); got.code != 0 || got.stdout != "" {
			t.Errorf("it is in %q (%+v)", got.stdout, got)
		}
		if got := on(t, h, "", cores); strings.Join(strings.Fields(got.stdout), " ") != "Max core file size 0 0 bytes" {
			t.Errorf("cores: %+v", got)
		}
		missing := aegis(t, h, nil, "run", "--env", "NOSUCH", "--", "true")
		if missing.code != 125 || !strings.Contains(missing.stderr, "NOSUCH") {
			t.Errorf("a secret that is missing: %+v", missing)
		}
		loseKey(t, h, state)
		must(t, h, "", "instance", "delete", "-q", "web")
		told.Process.Kill()
		for line := "."; line != ""; {
			if line, _ = told.out.ReadString('\n'); strings.Contains(line, value) {
				t.Errorf("an event tells it: %s", line)
			}
		}
		told.Wait()
	})
}

// loseKey takes the master key away for a moment: starts that need it are
// refused by name.
func loseKey(t *testing.T, h *testbed.Host, state string) {
	t.Helper()
	const move = `k=$(find "$1" -name "$2") && mv "$k" "$(dirname "$k")/$3"`
	if got := on(t, h, "", move, state, "master.key", "away"); got.code != 0 {
		t.Fatalf("taking the key away: %+v", got)
	}
	killDaemon(t, h, "aegisd")
	must(t, h, "", "up")
	if got := aegis(t, h, nil, "run", "--env", "KEY", "--", "true"); got.code != 125 || !strings.Contains(got.stderr, "KEY") {
		t.Errorf("without its key: %+v", got)
	}
	if got := on(t, h, "", move, state, "away", "master.key"); got.code != 0 {
		t.Fatalf("bringing the key back: %+v", got)
	}
	if got := aegis(t, h, nil, "run", "--env", "KEY", "--", "true"); got.code != 0 {
		t.Errorf("with its key again: %+v", got)
	}
}

// sealed makes the master key a credential of systemd, as docs/secrets.md says.
const sealed = `set -e
mkdir -p /etc/aegis /etc/systemd/system/aegisd.service.d
head -c 32 /dev/urandom | systemd-creds encrypt --name=aegis-master-key - /etc/aegis/master-key.cred
printf '[Service]\nLoadCredentialEncrypted=aegis-master-key:/etc/aegis/master-key.cred\n' >/etc/systemd/system/aegisd.service.d/key.conf
systemctl daemon-reload
systemctl restart aegisd.service
`

func TestTheMasterKeyMayBeACredential(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a tree")
	}
	h, value := testbed.System(t), canary()
	must(t, h, "", "up")
	must(t, h, value+"\n", "secret", "set", "KEY", "-")
	if got := on(t, h, "", sealed); got.code != 0 {
		t.Fatalf("sealing the key: %+v", got)
	}
	must(t, h, "", "secret", "rotate-key")
	if got := on(t, h, "", `find /var/lib/aegis -name 'master.key*'`); got.code != 0 || got.stdout != "" {
		t.Errorf("a key is left in a file: %+v", got)
	}
	if got := on(t, h, "", "systemctl restart aegisd.service"); got.code != 0 {
		t.Fatalf("restarting aegisd: %+v", got)
	}
	if got := must(t, h, "", "run", "--env", "KEY", "--", "printenv", "KEY"); got != value+"\n" {
		t.Errorf("the program gets %q", got)
	}
}
