package image_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/image"
	"github.com/xfeldman/aegisvm/image/imagetest"
	"github.com/xfeldman/aegisvm/image/registry"
)

// pullUntilKilled pulls and removes an image again and again, and says when it
// does something.
func pullUntilKilled(dir, config, ref string) {
	ctx := context.Background()
	s, err := image.Open(dir, image.Options{Registry: registry.Options{Config: config}})
	for err == nil {
		_, err = s.Pull(ctx, ref, api.PullMissing, func(p image.Progress) { fmt.Println(p.Stage) })
		if err == nil {
			fmt.Println("removing")
			err = s.Remove(ctx, ref, nil)
			fmt.Println("removed")
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

func TestAPullKilledAnywhereLeavesAWholeStore(t *testing.T) {
	t.Parallel()
	r := imagetest.NewRegistry(t)
	d := r.Push(t, "img", "1", layers(4))
	dir, config, ref := t.TempDir(), r.Config(t), r.Host+"/img:1"
	for lines := 1; lines <= 20; lines++ {
		killPull(t, dir, config, ref, lines)
		s := open(t, dir, image.Options{Registry: registry.Options{Config: config}})
		all, err := s.List(t.Context())
		if err != nil || len(all) > 1 {
			t.Fatalf("after %d lines: %+v, %v", lines, all, err)
		}
		img, err := s.Prepare(t.Context(), ref, nil)
		if code := api.CodeOf(err); err != nil && code != api.NotFound || err == nil && img.Digest != string(d.Digest) {
			t.Errorf("after %d lines: %+v, %v", lines, img, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*/.tmp-*")); len(left) > 0 {
			t.Errorf("not swept: %q", left)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "oci/.umoci-*")); len(left) > 0 {
			t.Errorf("not swept: %q", left)
		}
		s.Close()
	}
	s := open(t, dir, image.Options{Registry: registry.Options{Config: config}})
	pull(t, s, ref, api.PullAlways)
	if _, err := s.Prune(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	onlyImages(t, dir, 0)
	if n := blobs(t, dir); n != 0 {
		t.Errorf("%d blobs are left", n)
	}
}

func TestAPullGoesOnWhereAKilledOneWas(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	r := serve(t, 4_000_000, func(w http.ResponseWriter, b []byte, _ string) {
		head(w, http.StatusOK, len(b), "")
		w.Write(b[:3_000_000])
		http.NewResponseController(w).Flush()
		<-gone // or the line would break before the process is killed
	})
	dir, config, ref := t.TempDir(), r.Config(t), r.Host+"/img:1"
	killPull(t, dir, config, ref, 3) // resolving, and downloading: 1 and 2 MiB
	close(gone)
	had := partials(t, dir)[string(r.layer.Digest)]
	if had < 2<<20 || had > 3_000_000 {
		t.Errorf("%d bytes are kept", had)
	}
	s := open(t, dir, image.Options{Registry: registry.Options{Config: config}})
	pull(t, s, ref, "")
	r.wantAsked(t, 0, int(had))
}

// killPull starts a process and kills it when it has said so many lines.
func killPull(t *testing.T, dir, config, ref string, lines int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "AEGIS_TEST_PULLS="+dir, "AEGIS_TEST_REGISTRY="+config, "AEGIS_TEST_REF="+ref)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for said := bufio.NewScanner(out); lines > 0 && said.Scan(); lines-- {
		switch said.Text() {
		case "resolving", "downloading", "building", "ready", "removing", "removed":
		default:
			t.Error(said.Text())
		}
	}
	cmd.Process.Signal(syscall.SIGKILL)
	io.Copy(io.Discard, out)
	cmd.Wait()
}
