package main

import (
	"embed"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The cases, one a paragraph: a comment that says what it is about, and a call
// a line. After a colon stands what the call must give, or the errors of which
// it must give one; without a colon it must succeed. Each case has an empty
// folder of its own, and belongs to root until `as` says otherwise.
//
//go:embed cases/*.txt
var cases embed.FS

// posix runs all cases and says how many have passed.
func posix() error {
	files, err := cases.ReadDir("cases")
	if err != nil {
		return err
	}
	runtime.LockOSThread() // users are of a thread
	if err := unix.Setgroups(nil); err != nil {
		return err
	}
	unix.Umask(0)
	passed, failed := 0, 0
	for _, f := range files {
		b, err := cases.ReadFile("cases/" + f.Name())
		if err != nil {
			return err
		}
		for i, text := range strings.Split(strings.TrimSpace(string(b)), "\n\n") {
			dir := fmt.Sprintf("%s-%d", strings.TrimSuffix(f.Name(), ".txt"), i)
			if err := runCase(dir, text); err != nil {
				failed++
				fmt.Printf("%s: %v\n", f.Name(), err)
				continue
			}
			passed++
		}
	}
	fmt.Printf("%d cases passed\n", passed)
	if failed > 0 {
		return fmt.Errorf("%d cases failed", failed)
	}
	return nil
}

// runCase runs one paragraph in a folder of its own.
func runCase(dir, text string) error {
	if err := os.Mkdir(dir, 0o777); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	s := &scene{held: map[string]int{}, marks: map[string]unix.Stat_t{}}
	defer os.Chdir("..")
	defer s.close()
	title, lines, _ := strings.Cut(text, "\n")
	for _, line := range strings.Split(lines, "\n") {
		if err := s.check(line); err != nil {
			return fmt.Errorf("%s: %s: %w", strings.TrimPrefix(title, "# "), line, err)
		}
	}
	return nil
}

// scene is what a case has made so far.
type scene struct {
	held  map[string]int
	marks map[string]unix.Stat_t
}

func (s *scene) close() {
	s.as(0)
	for _, fd := range s.held {
		unix.Close(fd)
	}
}

// as makes this thread act for a user, on files alone.
func (s *scene) as(uid int) {
	unix.SetfsgidRetGid(uid)
	unix.SetfsuidRetUid(uid)
}

// check carries out one line and compares.
func (s *scene) check(line string) error {
	call, want, has := strings.Cut(line, " : ")
	words := strings.Fields(call)
	op := ops[words[0]]
	if op == nil {
		return errors.New("there is no such call")
	}
	args := words[1:]
	for i := range args {
		args[i] = expand(args[i])
	}
	got, err := op(s, args)
	if e, ok := errors.AsType[unix.Errno](err); ok {
		got, err = unix.ErrnoName(e), nil
	}
	if err != nil {
		return err
	}
	if !has && got != "" {
		return fmt.Errorf("got %s", got)
	}
	if has && !slices.Contains(strings.Fields(want), got) {
		return fmt.Errorf("got %q", got)
	}
	return nil
}

// expand makes name:N a name and path:N a path of N bytes.
func expand(arg string) string {
	what, size, ok := strings.Cut(arg, ":")
	n, err := strconv.Atoi(size)
	switch {
	case !ok || err != nil:
		return arg
	case what == "name":
		return strings.Repeat("n", n)
	case what == "path":
		return strings.Repeat("./", n)[:n-1] + "p"
	}
	return arg
}
