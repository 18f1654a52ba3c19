package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

func (a *app) image() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Bring, keep and remove images",
		Long: `Bring, keep and remove images.

REF is the name of an image, with Docker's defaults (debian means
docker.io/library/debian:latest), or the digest of one that is here.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.imagePull(), a.imageList(), a.imageInfo(), a.imageRemove(), a.imagePrune(),
		a.imageLoad(), a.imageSave(), a.imageTag())
	return cmd
}

// imageNames are the names of images, short and whole.
func imageNames(ctx context.Context, aegis api.Aegis) (found []string, err error) {
	all, err := aegis.ListImages(ctx)
	for _, img := range all {
		for _, name := range img.Names {
			found = append(found, name)
			if hub, ok := strings.CutPrefix(name, "docker.io/"); ok {
				found = append(found, strings.TrimPrefix(hub, "library/"))
			}
		}
	}
	return found, err
}

// completeImage completes --image, which may be a path as well.
func completeImage(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return suggest(cmd, imageNames, typed), cobra.ShellCompDirectiveDefault
}

// completePolicy completes --pull.
func completePolicy(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{string(api.PullMissing), string(api.PullAlways), string(api.PullNever)}, cobra.ShellCompDirectiveNoFileComp
}

// refs wants at least one reference.
func refs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage(cmd, errors.New("no image: expected names or digests"))
	}
	return nil
}

// exactly wants the named arguments.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usage(cmd, fmt.Errorf("no %s: expected %s", names[len(args)], strings.Join(names, " and ")))
		case len(args) > len(names):
			return usage(cmd, fmt.Errorf("unexpected argument %q: expected %s", args[len(names)], strings.Join(names, " and ")))
		}
		return nil
	}
}

func (a *app) imageList() *cobra.Command {
	var out listing
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the images",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				all, err := aegis.ListImages(ctx)
				if err != nil {
					return err
				}
				return a.printImages(all, out)
			})
		},
	}
	out.addFlags(cmd)
	return cmd
}

func (a *app) imageInfo() *cobra.Command {
	var out listing
	cmd := &cobra.Command{
		Use:   "info REF",
		Short: "Show what is known of an image",
		Args:  exactly("REF"), ValidArgsFunction: argumentNames(imageNames, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				img, err := aegis.ImageInfo(ctx, args[0])
				if err != nil {
					return err
				}
				if done, err := a.specialImages(out, img, img); done {
					return err
				}
				return a.say("%s", imageText(img))
			})
		},
	}
	out.addFlags(cmd)
	return cmd
}

func (a *app) imageRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "rm REF...",
		Aliases: []string{"remove"},
		Short:   "Take names from images, and remove images without one",
		Args:    refs, ValidArgsFunction: argumentNames(imageNames, 1000),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				var failed []error
				for _, ref := range args {
					err := aegis.RemoveImage(ctx, ref)
					if err == nil {
						err = a.say("Image %s removed\n", ref)
					}
					failed = append(failed, err)
				}
				return errors.Join(failed...)
			})
		},
	}
}

func (a *app) imagePrune() *cobra.Command {
	var out listing
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove every image that no instance has, but the base image",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				removed, err := aegis.PruneImages(ctx)
				if err != nil {
					return err
				}
				return a.printRemoved(removed, out)
			})
		},
	}
	out.addFlags(cmd)
	return cmd
}

func (a *app) imageTag() *cobra.Command {
	return &cobra.Command{
		Use:   "tag REF NAME",
		Short: "Give an image another name",
		Args:  exactly("REF", "NAME"), ValidArgsFunction: argumentNames(imageNames, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withAegis(cmd, func(ctx context.Context, aegis api.Aegis) error {
				img, err := aegis.TagImage(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.say("Image %s is %s\n", short(img.Digest), args[1])
			})
		},
	}
}
