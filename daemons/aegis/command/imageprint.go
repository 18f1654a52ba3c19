package command

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/xfeldman/aegisvm/api"
)

// specialImages prints v where the format is one for programs; digests are
// what --quiet prints instead.
func (a *app) specialImages(out listing, v any, all ...api.Image) (done bool, err error) {
	if !out.quiet && out.format != "name" {
		return a.special(out, v)
	}
	for _, img := range all {
		names := img.Names
		if out.quiet || len(names) == 0 {
			names = []string{img.Digest}
		}
		for _, name := range names {
			err = errors.Join(err, a.say("%s\n", name))
		}
	}
	return true, err
}

func (a *app) printImages(all []api.Image, out listing) error {
	if done, err := a.specialImages(out, append([]api.Image{}, all...), all...); done {
		return err
	}
	if len(all) == 0 {
		return a.say("No images\n")
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "NAME\tDIGEST\tSIZE\tCREATED\tUSED BY")
	if out.format == "wide" {
		fmt.Fprint(w, "\tPACKED\tLAYERS\tCOMMAND")
	}
	fmt.Fprintln(w)
	for _, img := range all {
		for i, name := range imageLabels(img) {
			users := ""
			if i == 0 {
				users = strings.Join(img.UsedBy, ", ")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s", name, short(img.Digest), size(img.Size), img.CreatedAt.Local().Format(time.DateTime), users)
			if out.format == "wide" {
				fmt.Fprintf(w, "\t%s\t%d\t%s", size(img.PackedSize), img.Layers, quoted(append(slices.Clone(img.Entrypoint), img.Command...)))
			}
			fmt.Fprintln(w)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// imageLabels are the names of an image, or what stands for them.
func imageLabels(img api.Image) []string {
	switch {
	case len(img.Names) > 0:
		return img.Names
	case img.Base:
		return []string{"(base)"}
	default:
		return []string{"(none)"}
	}
}

// short is as much of a digest as tells it from others.
func short(digest string) string { return digest[:min(len(digest), len("sha256:")+12)] }

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f := float64(n)
	for ; f >= 1024 && len(units) > 1; units = units[1:] {
		f /= 1024
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[0])
}

// imageText leaves out what the image does not say. What it says is a
// stranger's: a terminal must not obey it.
func imageText(img api.Image) string {
	var b strings.Builder
	line := func(label, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%-12s %s\n", label+":", plainText(value))
		}
	}
	line("Digest", img.Digest)
	for _, name := range img.Names {
		line("Name", name)
	}
	if img.Base {
		line("Base", "yes")
	}
	line("Size", size(img.Size))
	if img.PackedSize > 0 {
		line("Packed", fmt.Sprintf("%s in %d layers", size(img.PackedSize), img.Layers))
	}
	line("Created", img.CreatedAt.Local().Format(time.DateTime))
	line("Entrypoint", quoted(img.Entrypoint))
	line("Command", quoted(img.Command))
	line("Workdir", img.Workdir)
	line("User", img.User)
	for _, kv := range img.Env {
		line("Env", kv)
	}
	line("Used by", strings.Join(img.UsedBy, ", "))
	return b.String()
}

// plainText quotes a text that a terminal would do something with.
func plainText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(s) {
		return strconv.Quote(s)
	}
	return s
}

// quoted shows an argv so that its words can be told apart.
func quoted(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", argv)
}

func (a *app) printRemoved(removed []api.Image, out listing) error {
	if done, err := a.specialImages(out, append([]api.Image{}, removed...), removed...); done {
		return err
	}
	text, freed := "", int64(0)
	for _, img := range removed {
		text += fmt.Sprintf("Image %s removed: %s\n", short(img.Digest), strings.Join(imageLabels(img), ", "))
		freed += img.Size + img.PackedSize
	}
	return a.say("%s%d images removed, %s freed\n", text, len(removed), size(freed))
}
