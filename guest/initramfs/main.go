// Command initramfs makes the initial file system of a guest: the harness as
// /init and what a program needs that starts before anything is mounted. It
// owns the layout of that archive and nothing of what runs in it. The same
// input makes the same bytes.
//
//	initramfs -init HARNESS -o FILE [-append CPIO]
//
// -append adds another archive, such as a distribution kernel's modules; the
// kernel unpacks one after the other.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	init := flag.String("init", "", "the `program` that becomes /init, static")
	out := flag.String("o", "", "the archive to write")
	more := flag.String("append", "", "an uncompressed newc `archive` to add")
	flag.Parse()
	if *init == "" || *out == "" || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "initramfs: -init and -o are needed, and nothing but flags")
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*init, *out, *more); err != nil {
		fmt.Fprintln(os.Stderr, "initramfs:", err)
		os.Exit(1)
	}
}

// run writes the archive whole or not at all.
func run(init, out, more string) error {
	f, err := os.Create(out + ".part")
	if err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := write(f, init, more); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("writing %s: %w", out, err)
	}
	return os.Rename(f.Name(), out)
}

func write(f io.Writer, init, more string) error {
	program, err := os.ReadFile(init)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	a := &archive{w: w}
	for _, e := range layout(program) {
		if err := a.add(e); err != nil {
			return err
		}
	}
	if err := a.close(); err != nil {
		return err
	}
	if more != "" {
		if err := appendFile(w, more); err != nil {
			return err
		}
	}
	return w.Flush()
}

func appendFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != magic {
		return fmt.Errorf("%s is no uncompressed newc archive", name)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// layout is what the archive holds. The device nodes are there because a Go
// program opens /dev/null before its main runs when its own descriptors are
// closed, and ends when it cannot.
func layout(init []byte) []entry {
	return []entry{
		{name: "dev", mode: typeDir | 0o755},
		{name: "dev/console", mode: typeChar | 0o600, major: 5, minor: 1},
		{name: "dev/null", mode: typeChar | 0o666, major: 1, minor: 3},
		{name: "init", mode: typeFile | 0o755, data: init},
		{name: "newroot", mode: typeDir | 0o755},
		{name: "proc", mode: typeDir | 0o755},
		{name: "run", mode: typeDir | 0o755},
		{name: "sys", mode: typeDir | 0o755},
	}
}
