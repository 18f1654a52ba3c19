package vmmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// watchLeaks fails the test when descriptors or children are left after it
// and its cleanups. It polls, because nobody tells when the last goroutine
// has let its descriptor go.
func watchLeaks(t *testing.T) {
	before := held(t)
	if before == nil {
		t.Log("leaks are not watched: no /proc here")
		return
	}
	t.Cleanup(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 300 {
			if len(held(t)) <= len(before) {
				return
			}
			<-tick.C
		}
		t.Errorf("left behind:\n%s", strings.Join(extra(before, held(t)), "\n"))
	})
}

// held names the descriptors and children of this process.
func held(t *testing.T) []string {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	var names []string
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasSuffix(to, "/fd") {
			names = append(names, fmt.Sprintf("descriptor %s -> %s", fd.Name(), to))
		}
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range children {
		b, _ := os.ReadFile(c)
		for _, pid := range strings.Fields(string(b)) {
			names = append(names, "child "+pid)
		}
	}
	return names
}

func extra(before, after []string) []string {
	return slices.DeleteFunc(after, func(n string) bool { return slices.Contains(before, n) })
}
