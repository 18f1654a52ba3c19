// Command gendocs writes the man pages and the shell completions of the CLI,
// made from its commands, below a directory:
//
//	man/aegis*.1
//	completion/aegis.bash, _aegis, aegis.fish
//
// It is a program of its own so that what it takes is not in the CLI.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/xfeldman/aegisvm/daemons/aegis/command"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gendocs DIRECTORY")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// generate makes everything anew, so that no page of a command stays that is
// no more.
func generate(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	root := command.Tree()
	return errors.Join(manual(root, filepath.Join(dir, "man")), completion(root, filepath.Join(dir, "completion")))
}

// manual writes one page per command. Their date is SOURCE_DATE_EPOCH, so that
// the same source makes the same bytes.
func manual(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "AegisVM", Manual: "AegisVM"}, dir)
}

func completion(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		root.GenBashCompletionFileV2(filepath.Join(dir, "aegis.bash"), true),
		root.GenZshCompletionFile(filepath.Join(dir, "_aegis")),
		root.GenFishCompletionFile(filepath.Join(dir, "aegis.fish"), true),
	)
}
