package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// TestMain lets the test program be the daemon.
func TestMain(m *testing.M) {
	if os.Getenv("AEGIS_TEST_DAEMON") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// daemon is the running daemon of a test.
type daemon struct {
	*exec.Cmd
	log bytes.Buffer
}

func start(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{Cmd: exec.Command(os.Args[0], args...)}
	d.Env, d.Stderr = append(os.Environ(), "AEGIS_TEST_DAEMON=1"), &d.log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Process.Kill(); d.Wait() })
	return d
}

// owner waits until the daemon's name is there, or gone.
func owner(t *testing.T, changes *bus.Subscription, there bool) {
	t.Helper()
	for s := range changes.C {
		if name, _ := s.Body[2].(string); (name != "") == there {
			return
		}
	}
	t.Fatal("the bus went away")
}

func TestTheDaemonServesPreparesAndLeaves(t *testing.T) {
	address, state, share := bustest.Start(t), t.TempDir(), t.TempDir()
	base := imagetest.Layout(t, imagetest.Of([]imagetest.Entry{imagetest.File("a", "1")}))
	if err := os.Symlink(base, filepath.Join(share, "base")); err != nil {
		t.Fatal(err)
	}
	conn := bustest.Dial(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes, err := conn.SubscribeOwner(ctx, bus.ImageName)
	if err != nil {
		t.Fatal(err)
	}
	client := imagebus.NewClient(conn)
	args := []string{"--bus", address, "--state", state, "--share", share}

	d := start(t, args...)
	owner(t, changes, true)
	img, err := client.Prepare(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.CreateDisk(ctx, "kept", image.DiskSize); err != nil {
		t.Fatal(err)
	}
	d.Process.Kill()
	owner(t, changes, false)

	d = start(t, args...)
	owner(t, changes, true)
	if all, err := client.List(ctx); err != nil || len(all) != 1 || all[0].Digest != img.Digest {
		t.Errorf("after kill -9: %+v, %v", all, err)
	}
	if ids, err := client.Disks(ctx); err != nil || len(ids) != 1 {
		t.Errorf("after kill -9: %q, %v", ids, err)
	}
	d.Process.Signal(syscall.SIGTERM)
	if err := d.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, d.log.String())
	}
}

func TestAStateThatCannotBeIsToldAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, "--state", file)
	if err := d.Wait(); err == nil || !bytes.Contains(d.log.Bytes(), []byte("not a directory")) {
		t.Errorf("%v: %s", err, d.log.String())
	}
}

func TestTheCommandLineIsStrict(t *testing.T) {
	for _, args := range [][]string{{"serve"}, {"--no-such-flag"}} {
		if err := start(t, args...).Wait(); err == nil || err.(*exec.ExitError).ExitCode() != 2 {
			t.Errorf("%q: %v, exit 2 expected", args, err)
		}
	}
}

func TestASecondDaemonEndsAndSaysWhy(t *testing.T) {
	address := bustest.Start(t)
	conn := bustest.Dial(t, address)
	if err := conn.Claim(t.Context(), bus.ImageName); err != nil {
		t.Fatal(err)
	}
	d := start(t, "--bus", address, "--state", t.TempDir())
	if err := d.Wait(); err == nil || !bytes.Contains(d.log.Bytes(), []byte("is taken")) {
		t.Errorf("%v: %s", err, d.log.String())
	}
}

func TestRegistriesAreThoseOfTheFile(t *testing.T) {
	address, registries := bustest.Start(t), filepath.Join(t.TempDir(), "registries.json")
	r := imagetest.NewRegistry(t)
	d := r.Push(t, "img", "1", imagetest.Of([]imagetest.Entry{imagetest.File("a", "1")}))
	conn := bustest.Dial(t, address)
	changes, err := conn.SubscribeOwner(t.Context(), bus.ImageName)
	if err != nil {
		t.Fatal(err)
	}
	start(t, "--bus", address, "--state", t.TempDir(), "--registries", registries)
	owner(t, changes, true)
	client := imagebus.NewClient(conn)
	for text, want := range map[string]api.Code{"{": api.InvalidArgument, "{}": api.Unavailable} {
		if err := os.WriteFile(registries, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Pull(t.Context(), r.Host+"/img:1", api.PullMissing, nil); api.CodeOf(err) != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := os.WriteFile(registries, []byte(`{"insecure": ["`+r.Host+`"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if img, err := client.Pull(t.Context(), r.Host+"/img:1", api.PullMissing, nil); err != nil || img.Digest != string(d.Digest) {
		t.Errorf("%+v, %v", img, err)
	}
}
