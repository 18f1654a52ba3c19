// Command fstest does to a folder what programs do to theirs, and checks what
// it gets. System tests run it in a guest, on the machine's own disk, which
// shows that what it expects is what Linux does, and in the workspace. It owns
// the folder that it is given and reaches no other one.
package main

import (
	"fmt"
	"os"
	"strconv"
)

const usage = `usage:
  fstest posix DIR           what each call of the file system may and must not do
  fstest fsx DIR SEED OPS    random access to a file, compared with a copy of it in memory
  fstest renames DIR N       N renames, of which none may fail, and what is there in the end
  fstest hog DIR MIB FREE    write and sync MIB while no more than FREE MiB of memory are left
`

func main() {
	if len(os.Args) < 3 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	var n []int64
	for _, text := range os.Args[3:] {
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			fmt.Fprint(os.Stderr, usage)
			os.Exit(2)
		}
		n = append(n, v)
	}
	if err := run(os.Args[1], os.Args[2], n); err != nil {
		fmt.Fprintln(os.Stderr, "fstest:", err)
		os.Exit(1)
	}
}

func run(what, dir string, n []int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	switch {
	case what == "posix" && len(n) == 0:
		return posix()
	case what == "fsx" && len(n) == 2:
		return fsx(n[0], int(n[1]))
	case what == "renames" && len(n) == 1:
		return renames(int(n[0]))
	case what == "hog" && len(n) == 2:
		return hog(n[0]<<20, n[1]<<20)
	}
	return fmt.Errorf("%s with %d numbers: it is not one of\n%s", what, len(n), usage)
}
