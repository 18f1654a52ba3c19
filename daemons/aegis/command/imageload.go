package command

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/progress"
)

func (a *app) imageLoad() *cobra.Command {
	name, out := "", listing{}
	cmd := &cobra.Command{
		Use:   "load PATH|-",
		Short: "Keep the images of a file or a directory",
		Long: `Keep the images of a file or a directory: an OCI layout, as a directory or a
tar, or the tar of docker save. It may be compressed with gzip or zstd; - is
standard input.`,
		Args: exactly("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				archive, err := a.openArchive(args[0])
				if err != nil {
					return err
				}
				defer archive.Close()
				sent, erase, err := a.watched(archive)
				if err != nil {
					return err
				}
				all, err := aegis.LoadImage(ctx, sent, name)
				erase()
				if err != nil {
					return err
				}
				return a.printLoaded(all, out)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "give the image, of which there must be but one, this name")
	out.addFlags(cmd)
	return cmd
}

func (a *app) printLoaded(all []api.Image, out listing) error {
	if done, err := a.specialImages(out, append([]api.Image{}, all...), all...); done {
		return err
	}
	for _, img := range all {
		for _, name := range imageLabels(img) {
			if err := a.say("Image %s is %s\n", short(img.Digest), name); err != nil {
				return err
			}
		}
	}
	return nil
}

// openArchive opens what load is to read. A directory becomes a tar: aegisd
// may not be allowed to read it.
func (a *app) openArchive(path string) (*os.File, error) {
	if path == "-" {
		return a.in, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.IsDir() {
		return f, err
	}
	f.Close()
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		root.Close()
		return nil, err
	}
	go func() { // ends with the files, or when r is closed
		defer root.Close()
		defer w.Close()
		t := tar.NewWriter(w)
		if err := errors.Join(t.AddFS(root.FS()), t.Close()); err != nil {
			a.notice(fmt.Sprintf("reading %s: %v", path, err))
		}
	}()
	return r, nil
}

// watched is the archive to send in place of another, so that a terminal shows
// how much of it was taken. Without a terminal it is the archive itself.
func (a *app) watched(archive *os.File) (sent *os.File, erase func(), err error) {
	if !progress.Possible(a.err) {
		return archive, func() {}, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	m := &meter{line: progress.NewLine(a.err)}
	if st, err := archive.Stat(); err == nil && st.Mode().IsRegular() {
		m.total = st.Size()
	}
	go func() { // ends with the archive, or when r is closed
		defer w.Close()
		_, err := io.Copy(io.MultiWriter(w, m), struct{ io.Reader }{archive})
		switch {
		case err == nil:
			m.ended()
		case !errors.Is(err, syscall.EPIPE): // which is told by whoever wants no more
			a.notice(fmt.Sprintf("reading %s: %v", archive.Name(), err))
		}
	}()
	return r, func() {
		m.stop()
		r.Close()
	}, nil
}

// meterStep is how many bytes pass between two drawings.
const meterStep = 1 << 20

// meter draws how much of an archive was taken.
type meter struct {
	total int64 // 0 if it is not known

	mu          sync.Mutex // guards the fields below and the line
	line        *progress.Line
	done, drawn int64
}

// Write counts.
func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.done += int64(len(b)); m.line != nil && m.done-m.drawn >= meterStep {
		m.drawn = m.done
		m.line.Draw(m.text())
	}
	return len(b), nil
}

func (m *meter) text() string {
	if m.total == 0 {
		return "reading " + size(m.done)
	}
	return stageText(api.ImageProgress{Stage: "reading", Done: m.done, Total: m.total})
}

// ended tells what goes on when all was taken.
func (m *meter) ended() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.line != nil {
		m.line.Draw("building")
	}
}

// stop erases the line; nothing is drawn any more.
func (m *meter) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.line.Erase()
	m.line = nil
}
