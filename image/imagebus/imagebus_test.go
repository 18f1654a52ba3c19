package imagebus_test

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus"
	"github.com/xfeldman/aegisvm/bus/bustest"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagebus"
	"github.com/xfeldman/aegisvm/image/imagetest"
)

// serve serves a store on the bus until the test ends.
func serve(t *testing.T, address string, store image.Store, client string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	conn := bustest.Dial(t, address)
	go func() {
		done <- imagebus.Serve(ctx, conn, store, client, func() { close(ready) })
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func TestTheClientKeepsTheContract(t *testing.T) {
	imagetest.Contract(t, func(t *testing.T, base string) image.Store {
		address := bustest.Start(t)
		local, err := image.Open(t.TempDir(), image.Options{Base: base})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { local.Close() })
		serve(t, address, local, "root")
		return imagebus.NewClient(bustest.Dial(t, address))
	})
}

func TestOnlyRootAndTheDaemonMayCall(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody")
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	for client, want := range map[string]api.Code{"nobody": "", "root": api.Denied, "no-such-user": api.Denied} {
		t.Run("with "+client+" as client", func(t *testing.T) {
			address := bustest.Start(t)
			serve(t, address, waiting{}, client)
			stranger := imagebus.NewClient(bustest.DialAs(t, address, uid))
			if _, err := stranger.Disks(t.Context()); api.CodeOf(err) != want {
				t.Errorf("list disks as nobody: %v", err)
			}
			if err := stranger.DeleteDisk(t.Context(), "x"); api.CodeOf(err) != want {
				t.Errorf("delete a disk as nobody: %v", err)
			}
			if _, err := imagebus.NewClient(bustest.Dial(t, address)).Disks(t.Context()); err != nil {
				t.Errorf("list disks as root: %v", err)
			}
		})
	}
}

func TestThePolicyDeniesStrangers(t *testing.T) {
	policy, err := os.ReadFile("../../units/org.aegisvm.Image1.conf")
	if err != nil {
		t.Fatal(err)
	}
	// dbus-daemon ignores a policy for users that this machine does not have.
	file := filepath.Join(t.TempDir(), "policy.conf")
	if err := os.WriteFile(file, policy, 0o644); err != nil {
		t.Fatal(err)
	}
	address := bustest.StartWithPolicies(t, file)
	serve(t, address, waiting{}, "nobody")
	stranger := imagebus.NewClient(bustest.DialAs(t, address, 65534))
	if _, err := stranger.Disks(t.Context()); api.CodeOf(err) != api.Denied {
		t.Errorf("list disks as nobody: %v", err)
	}
	if err := bustest.DialAs(t, address, 65534).Claim(t.Context(), bus.ImageName+"x"); api.CodeOf(err) != api.Denied {
		t.Errorf("claim a name as nobody: %v", err)
	}
	if _, err := imagebus.NewClient(bustest.Dial(t, address)).Disks(t.Context()); err != nil {
		t.Errorf("list disks as root: %v", err)
	}
}

// waiting is a store whose Prepare lasts until nobody waits for it.
type waiting struct {
	image.Store
	started, ended chan struct{}
}

func (w waiting) Prepare(ctx context.Context, _ string, report func(image.Progress)) (image.Image, error) {
	report(image.Progress{Stage: "building", Done: 1, Total: 2})
	close(w.started)
	<-ctx.Done()
	close(w.ended)
	return image.Image{}, ctx.Err()
}

func (waiting) Disks(context.Context) ([]string, error)  { return nil, nil }
func (waiting) DeleteDisk(context.Context, string) error { return nil }

func TestWorkEndsWhenItsCallerGivesUp(t *testing.T) {
	address := bustest.Start(t)
	store := waiting{started: make(chan struct{}), ended: make(chan struct{})}
	serve(t, address, store, "root")
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan image.Progress, 1)
	failed := make(chan error, 1)
	go func() {
		_, err := imagebus.NewClient(bustest.Dial(t, address)).Prepare(ctx, "", func(p image.Progress) { told <- p })
		failed <- err
	}()
	if p := <-told; p.Done != 1 || p.Total != 2 {
		t.Errorf("progress %+v", p)
	}
	cancel()
	if err := <-failed; err == nil {
		t.Error("a caller that gave up got no error")
	}
	<-store.ended
}

func TestWorkEndsWhenItsCallerDies(t *testing.T) {
	address := bustest.Start(t)
	store := waiting{started: make(chan struct{}), ended: make(chan struct{})}
	serve(t, address, store, "root")
	conn, err := bus.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := imagebus.NewClient(conn).Prepare(t.Context(), "", nil)
		failed <- err
	}()
	<-store.started
	conn.Close()
	if err := <-failed; api.CodeOf(err) != api.Unavailable {
		t.Errorf("after the bus went: %v", err)
	}
	<-store.ended
}
