package aegisbus_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/bus/aegisbus"
	"github.com/xfeldman/aegisvm/bus/bustest"
)

// imaginative keeps no image but answers as if.
type imaginative struct {
	*scripted
	pulling, ended chan struct{}
}

func (i imaginative) PullImage(ctx context.Context, ref string, policy api.PullPolicy, progress func(api.ImageProgress)) (api.Image, error) {
	progress(api.ImageProgress{Stage: "downloading", Done: 1, Total: 2})
	if ref != "wait" {
		return api.Image{Digest: string(policy)}, nil
	}
	close(i.pulling)
	<-ctx.Done()
	close(i.ended)
	return api.Image{}, ctx.Err()
}

func (i imaginative) LoadImage(_ context.Context, f *os.File, name string) ([]api.Image, error) {
	b, err := io.ReadAll(f)
	return []api.Image{{Digest: string(b), Names: []string{name}}}, err
}

func (i imaginative) SaveImage(_ context.Context, refs []string, to *os.File) error {
	_, err := to.WriteString(strings.Repeat(refs[0], 100_000))
	return err
}

func newImaginative() imaginative {
	return imaginative{newScripted(), make(chan struct{}), make(chan struct{})}
}

func TestProgressOfAPullComesWithTheSession(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newImaginative())
	client := aegisbus.NewClient(bustest.Dial(t, address))
	var told []api.ImageProgress
	img, err := client.PullImage(t.Context(), "x", api.PullAlways, func(p api.ImageProgress) { told = append(told, p) })
	if err != nil || img.Digest != "always" {
		t.Errorf("%+v, %v", img, err)
	}
	if diff := cmp.Diff([]api.ImageProgress{{Stage: "downloading", Done: 1, Total: 2}}, told); diff != "" {
		t.Error(diff)
	}
	if _, err := client.PullImage(t.Context(), "x", "", nil); err != nil {
		t.Errorf("without an ear: %v", err)
	}
}

func TestAPullEndsWithItsCaller(t *testing.T) {
	address, fake := bustest.Start(t), newImaginative()
	serve(t, address, fake)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	client := aegisbus.NewClient(bustest.Dial(t, address))
	go func() {
		_, err := client.PullImage(ctx, "wait", "", nil)
		failed <- err
	}()
	<-fake.pulling
	cancel()
	if err := <-failed; api.CodeOf(err) != api.Unavailable {
		t.Errorf("%v", err)
	}
	<-fake.ended
}

func TestArchivesAreFilesOrPipes(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newImaginative())
	client := aegisbus.NewClient(bustest.Dial(t, address))
	file, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := client.SaveImage(t.Context(), []string{"x"}, file); err != nil {
		t.Fatal(err)
	}
	if st, err := file.Stat(); err != nil || st.Size() != 100_000 {
		t.Errorf("saved: %v, %v", st.Size(), err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	saved := make(chan error, 1)
	go func() {
		defer w.Close()
		saved <- client.SaveImage(t.Context(), []string{"ab"}, w)
	}()
	if b, err := io.ReadAll(r); err != nil || len(b) != 200_000 {
		t.Errorf("%d bytes through a pipe, %v", len(b), err)
	}
	if err := <-saved; err != nil {
		t.Error(err)
	}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		defer out.Close()
		io.WriteString(out, "an archive")
	}()
	all, err := client.LoadImage(t.Context(), in, "mine")
	if diff := cmp.Diff([]api.Image{{Digest: "an archive", Names: []string{"mine"}}}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestAnArchiveThatNobodyReadsIsAnError(t *testing.T) {
	address := bustest.Start(t)
	serve(t, address, newImaginative())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	err = aegisbus.NewClient(bustest.Dial(t, address)).SaveImage(t.Context(), []string{"x"}, w)
	if err == nil {
		t.Error("saved to nobody")
	}
}
