package service

import (
	"fmt"
	"os"
	"path/filepath"
)

// Where packages install what is not in PATH.
const (
	installedPrograms = "/usr/libexec/aegisvm"
	installedShare    = "/usr/share/aegisvm"
)

// program finds one of our daemons: beside this program, so that a build tree
// uses its own, else where packages install it.
func program(name string) (string, error) {
	path := beside(name, filepath.Join(installedPrograms, name))
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not installed: expected it beside this program or in %s", name, installedPrograms)
	}
	return path, nil
}

// Share is where the guest's kernels and the base image are, found likewise.
func Share() string { return beside("../share/aegisvm", installedShare) }

func beside(relative, installed string) string {
	exe, err := os.Executable()
	if err != nil {
		return installed
	}
	if resolved, err := filepath.EvalSymlinks(exe); err == nil {
		exe = resolved
	}
	near := filepath.Join(filepath.Dir(exe), relative)
	if _, err := os.Stat(near); err != nil {
		return installed
	}
	return near
}
