package command

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xfeldman/aegisvm/api"
	"github.com/xfeldman/aegisvm/daemons/aegis/progress"
)

func (a *app) imagePull() *cobra.Command {
	policy, out := pullPolicy(api.PullAlways), listing{}
	cmd := &cobra.Command{
		Use:   "pull NAME",
		Short: "Bring an image from its registry",
		Long: `Bring an image from its registry.

What is here already is not brought again. Credentials are those of docker
login; docs/images.md tells of mirrors and of registries without TLS.`,
		Args: exactly("NAME"), ValidArgsFunction: argumentNames(imageNames, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				report, erase := a.pullProgress()
				img, err := aegis.PullImage(ctx, args[0], api.PullPolicy(policy), report)
				erase()
				if err != nil {
					return err
				}
				if done, err := a.specialImages(out, img, img); done {
					return err
				}
				return a.say("Image %s is %s\n", short(img.Digest), args[0])
			})
		},
	}
	cmd.Flags().Var(&policy, "pull", "when to ask the registry: missing, always or never")
	out.addFlags(cmd)
	return cmd
}

// pullPolicy is the flag --pull.
type pullPolicy api.PullPolicy

func (p *pullPolicy) String() string { return string(*p) }
func (p *pullPolicy) Type() string   { return "missing|always|never" }

func (p *pullPolicy) Set(s string) error {
	*p = pullPolicy(s)
	if s == "" {
		return errors.New("expected missing, always or never")
	}
	return api.PullPolicy(s).Check()
}

// pullProgress shows progress where there is a terminal.
func (a *app) pullProgress() (report func(api.ImageProgress), erase func()) {
	if !progress.Possible(a.err) {
		return nil, func() {}
	}
	l := progress.NewLine(a.err)
	return func(p api.ImageProgress) { l.Draw(stageText(p)) }, l.Erase
}

func stageText(p api.ImageProgress) string {
	if p.Total == 0 {
		return p.Stage
	}
	return fmt.Sprintf("%s %s %s of %s", p.Stage, progress.Bar(p.Done, p.Total), size(p.Done), size(p.Total))
}

func (a *app) imageSave() *cobra.Command {
	path := ""
	cmd := &cobra.Command{
		Use:   "save REF...",
		Short: "Write images as the tar of an OCI layout",
		Args:  refs, ValidArgsFunction: argumentNames(imageNames, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			if path == "" && term.IsTerminal(int(a.out.Fd())) {
				return usage(cmd, errors.New("standard output is a terminal: expected --file or a redirection"))
			}
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				if path == "" {
					return aegis.SaveImage(ctx, args, a.out)
				}
				return saveTo(path, func(f *os.File) error { return aegis.SaveImage(ctx, args, f) })
			})
		},
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "file to write (default standard output)")
	return cmd
}

// saveTo leaves no half of a file behind.
func saveTo(path string, save func(*os.File) error) error {
	f, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := save(f.File); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
