package tests

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/api/restapi"
	"github.com/xfeldman/aegisvm/tests/testbed"
)

// members has a system with two members of the group aegis.
func members(t *testing.T) (h *testbed.Host, as func(user string, argv ...string) result) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots real machines")
	}
	h = testbed.System(t)
	if got := aegis(t, h, nil, "up"); got.code != 0 {
		t.Fatalf("aegis up: %+v", got)
	}
	on := func(argv ...string) result {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return finish(ctx, t, h.Command(ctx, argv...), nil)
	}
	for _, name := range []string{"alice", "bob"} {
		if got := on("useradd", "--create-home", "--groups", "aegis", name); got.code != 0 {
			t.Fatalf("useradd: %+v", got)
		}
	}
	return h, func(user string, argv ...string) result {
		t.Helper()
		return on(append([]string{"runuser", "-u", user, "--"}, argv...)...)
	}
}

// uidOf is a user's, who owns their home.
func uidOf(t *testing.T, h *testbed.Host, user string) uint32 {
	t.Helper()
	return ownerOf(t, filepath.Join(h.Root, "home", user))
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}

// TestAWorkspaceIsItsOwners has two members, each with folders of their own.
func TestAWorkspaceIsItsOwners(t *testing.T) {
	h, as := members(t)
	before := inventory(t, h)
	ws := filepath.Join(h.Root, "home/alice/ws")
	if got := as("alice", "mkdir", "-m", "700", "/home/alice/ws"); got.code != 0 {
		t.Fatalf("mkdir: %+v", got)
	}
	start := func(user, name, workspace string) {
		t.Helper()
		if got := as(user, "aegis", "instance", "start", "--name", name, "--workspace", workspace, "--", "sleep", "1000"); got.code != 0 {
			t.Fatalf("%s starts %s: %+v", user, name, got)
		}
		if got := as(user, "aegis", "instance", "wait", name, "--until", "running"); got.code != 0 {
			t.Fatalf("%s waits for %s: %+v\n%s", user, name, got, as("root", "journalctl", "--no-pager", "-n", "80").stdout)
		}
	}
	start("alice", "hers", "/home/alice/ws")
	alice := uidOf(t, h, "alice")

	t.Run("files are the owner's", func(t *testing.T) {
		if got := as("alice", "aegis", "exec", "hers", "--", "sh", "-c", "cd /workspace && mkdir d && echo x >d/f && su nobody -s /bin/sh -c id && chown nobody d/f"); got.code == 0 {
			t.Errorf("a file was given away: %+v", got)
		}
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		put(t, client, "hers", "e/f", "root asks")
		for _, path := range []string{"d", "d/f", "e", "e/f"} {
			if uid := ownerOf(t, filepath.Join(ws, path)); uid != alice {
				t.Errorf("%s is uid %d's", path, uid)
			}
		}
		if err := os.Symlink("/home/alice/.profile", filepath.Join(ws, "out")); err != nil {
			t.Fatal(err)
		}
		if _, err := get(t, client, "hers", "out"); api.CodeOf(err) != api.Denied {
			t.Errorf("a link that leads out: %v", err)
		}
	})
	t.Run("the server is the owner and nothing else", func(t *testing.T) {
		pids := servers(t, h)
		if len(pids) != 1 {
			t.Fatalf("servers: %v", pids)
		}
		wantPowerless(t, pids[0], alice)
	})
	t.Run("systemd tells which it is", func(t *testing.T) {
		got := as("root", "systemctl", "status", "--no-pager", "aegis-fs@*")
		if !strings.Contains(got.stdout, "machine m-") || !strings.Contains(got.stdout, "/home/alice/ws") {
			t.Errorf("status: %+v", got)
		}
	})
	t.Run("the next server goes on", func(t *testing.T) {
		for range 2 {
			if n := killServers(t, h); n != 1 {
				t.Errorf("%d servers were killed", n)
			}
			if got := as("alice", "aegis", "exec", "hers", "--", "sh", "-c", "cd /workspace && mkdir next && rmdir next && cat d/f"); got.stdout != "x\n" {
				t.Errorf("after its server: %+v", got)
			}
		}
	})
	t.Run("another member cannot have the folder", func(t *testing.T) {
		got := as("bob", "aegis", "run", "--workspace", "/home/alice/ws", "--", "true")
		if got.code == 0 || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("by the CLI: %+v", got)
		}
		client := restapi.NewClient(h.Socket)
		defer client.Close()
		// Root's own server has no power over the folders of others, either.
		_, err := client.Create(t.Context(), api.Caller{}, api.InstanceSpec{Command: []string{"true"}, Workspace: "/home/alice/ws"})
		if api.CodeOf(err) != api.Denied || !strings.Contains(err.Error(), "may not enter") {
			t.Errorf("by REST: %v", err)
		}
	})
	t.Run("names are each member's own", func(t *testing.T) {
		start("alice", "hers-too", "notes")
		start("bob", "his", "notes")
		for user, name := range map[string]string{"alice": "hers-too", "bob": "his"} {
			if got := as(user, "aegis", "exec", name, "--", "sh", "-c", "echo "+user+" >/workspace/who; cat /workspace/who; ls /workspace"); got.stdout != user+"\nwho\n" {
				t.Errorf("%s: %+v", user, got)
			}
		}
		if got := as("bob", "aegis", "workspace", "rm", "notes"); !strings.Contains(got.stderr, "delete that first") {
			t.Errorf("rm of one that is used: %+v", got)
		}
		if got := as("bob", "aegis", "instance", "delete", "his"); got.code != 0 {
			t.Errorf("delete: %+v", got)
		}
		if got := as("bob", "aegis", "workspace", "rm", "notes"); got.code != 0 {
			t.Errorf("rm: %+v", got)
		}
		if got := as("bob", "aegis", "workspace", "rm", "notes"); got.code == 0 || !strings.Contains(got.stderr, "ask them") {
			t.Errorf("rm of another's: %+v", got)
		}
		if got := as("bob", "aegis", "workspace", "prune"); got.stdout != "" || got.code != 0 {
			t.Errorf("prune: %+v", got)
		}
	})
	t.Run("a user whom nobody knows has one, too", func(t *testing.T) {
		got := as("root", "setpriv", "--reuid=4242", "--regid=4242", "--groups=aegis", "--inh-caps=-all", "env", "HOME=/", "AEGIS_ADDRESS=unix:/run/aegis/aegisd.sock",
			"aegis", "run", "--workspace", "theirs", "--", "sh", "-c", "echo x >/workspace/f")
		if got.code != 0 {
			t.Errorf("run: %+v", got)
		}
		info, err := os.Stat(filepath.Join(h.Root, "var/lib/aegis/workspaces/4242/theirs/f"))
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 4242 || st.Gid != 65534 {
			t.Errorf("the file is %d:%d's", st.Uid, st.Gid)
		}
		if got := as("root", "aegis", "workspace", "rm", "theirs"); got.code != 0 {
			t.Errorf("rm by root: %+v", got)
		}
	})
	for _, name := range []string{"hers", "hers-too"} {
		if got := as("alice", "aegis", "instance", "delete", name); got.code != 0 {
			t.Errorf("delete: %+v", got)
		}
	}
	if got := as("alice", "aegis", "workspace", "prune"); got.stdout != "Workspace notes deleted\n" {
		t.Errorf("prune: %+v", got)
	}
	if after := inventory(t, h); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
}

// wantPowerless looks at every thread of a process.
func wantPowerless(t *testing.T, pid int, uid uint32) {
	t.Helper()
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/status"))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads: %v, %v", threads, err)
	}
	id := strconv.Itoa(int(uid))
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"Uid:\t" + id + "\t" + id + "\t" + id + "\t" + id, `Gid:(\t` + id + "){4}", "NoNewPrivs:\t1", "Seccomp:\t2",
			"CapInh:\t0+", "CapPrm:\t0+", "CapEff:\t0+", "CapAmb:\t0+",
		} {
			if !regexp.MustCompile("(?m)^" + want + "$").Match(b) {
				t.Errorf("%s: no %q in\n%s", thread, want, b)
			}
		}
	}
}
