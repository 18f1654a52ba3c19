package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/xfeldman/aegisvm/api"
)

// workspaceFlags are the flags of a spec that are about its workspace.
type workspaceFlags struct {
	ref    string
	create bool
}

// addFlags gives a command the flags.
func (f *workspaceFlags) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ref, "workspace", "", "folder for /workspace: a path such as ./src, a name for one that aegisd keeps, or auto")
	flags.BoolVar(&f.create, "create-workspace", false, "make the folder of --workspace if it is not there")
}

// resolve turns what the user wrote into what aegisd takes: a name as it is, a
// path as an absolute one of a folder that is there.
func (f workspaceFlags) resolve() (string, error) {
	switch {
	case f.ref == "" && f.create:
		return "", errors.New("--create-workspace without --workspace: name the folder")
	case f.ref == "" || !isPath(f.ref):
		return f.ref, nil
	}
	path := f.ref
	if path == "~" || strings.HasPrefix(path, "~/") {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("workspace %q: %w", f.ref, err)
		}
		path = filepath.Join(home, path[1:])
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("workspace %q: %w", f.ref, err)
	}
	if f.create {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return "", fmt.Errorf("workspace %q: %w", f.ref, err)
		}
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("workspace %q: there is no folder %s: make it, or say --create-workspace", f.ref, path)
	case err != nil:
		return "", fmt.Errorf("workspace %q: %w", f.ref, err)
	case !info.IsDir():
		return "", fmt.Errorf("workspace %q: %s is no folder: name a folder", f.ref, path)
	}
	return path, nil
}

// isPath tells a path from a name, as older versions did.
func isPath(ref string) bool {
	return strings.Contains(ref, "/") || strings.HasPrefix(ref, ".") || ref == "~"
}

// workspaceNames asks aegisd for the names of workspaces.
func workspaceNames(ctx context.Context, aegis api.Aegis) (found []string, err error) {
	all, err := aegis.Workspaces(ctx)
	for _, w := range all {
		found = append(found, w.Name)
	}
	return found, err
}

// completeWorkspace completes names; a path is the shell's.
func completeWorkspace(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if isPath(typed) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	found := suggest(cmd, workspaceNames, typed)
	if strings.HasPrefix("auto", typed) {
		found = append(found, "auto")
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
