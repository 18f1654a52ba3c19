package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/daemons/aegis/command"
)

// walk calls visit for every command that a user may see.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			walk(c, visit)
		}
	}
}

func TestEveryCommandHasAPage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "docs")
	stale := filepath.Join(dir, "man", "aegis-stale.1")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("the page of a command that is no more was left")
	}
	pages := 0
	walk(command.Tree(), func(c *cobra.Command) {
		pages++
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		page, err := os.ReadFile(filepath.Join(dir, "man", name+".1"))
		if err != nil || !strings.Contains(string(page), c.Short) {
			t.Errorf("%s: %v, a page of %d bytes without its description", name, err, len(page))
		}
	})
	if all, _ := os.ReadDir(filepath.Join(dir, "man")); len(all) != pages {
		t.Errorf("%d pages for %d commands", len(all), pages)
	}
}

func TestTheSameSourceMakesTheSameDocuments(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if err := generate(a); err != nil {
		t.Fatal(err)
	}
	if err := generate(b); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("diff", "-r", a, b).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	page, err := os.ReadFile(filepath.Join(a, "man/aegis-run.1"))
	if err != nil || !strings.Contains(string(page), "Nov 2023") {
		t.Errorf("the date is not that of the source: %v\n%.100s", err, page)
	}
}

func TestCompletionsAreScriptsOfTheirShells(t *testing.T) {
	dir := t.TempDir()
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	for shell, file := range map[string]string{"bash": "aegis.bash", "zsh": "_aegis", "fish": "aegis.fish"} {
		t.Run(shell, func(t *testing.T) {
			path := filepath.Join(dir, "completion", file)
			if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "__complete") {
				t.Errorf("%v, %d bytes that do not ask the CLI", err, len(text))
			}
			if _, err := exec.LookPath(shell); err != nil {
				t.Skip(shell + " is not installed")
			}
			if out, err := exec.Command(shell, "-n", path).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
