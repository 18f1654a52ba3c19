package program

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"strings"
)

var machine = map[string]Program{
	"count":  count,
	"disk":   disk,
	"panic":  func(_ context.Context, p *Proc) int { return sysrq(p, 'c') },
	"reboot": func(_ context.Context, p *Proc) int { return sysrq(p, 'b') },
}

func sysrq(p *Proc, c byte) int {
	if err := p.Sysrq(c); err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 1
	}
	return 0
}

// count fills memory with a page-wise pattern and answers each line: "N"
// with how many lines it has answered, which only its memory knows, "fill X"
// with "filled X" after writing X into every page, and "check" with the
// values that the pages hold.
func count(_ context.Context, p *Proc) int {
	const page = 4096
	memory := make([]byte, number(p, 1, 4<<20))
	in := bufio.NewScanner(p.Stdin)
	for n := 1; in.Scan(); n++ {
		verb, arg, _ := strings.Cut(in.Text(), " ")
		answer := fmt.Sprint(n)
		switch verb {
		case "fill":
			for i := 0; i < len(memory); i += page {
				memory[i] = arg[0]
			}
			answer = "filled " + arg
		case "check":
			answer = values(memory, page)
		}
		if _, err := fmt.Fprintln(p.Stdout, answer); err != nil {
			return 1
		}
	}
	return 0
}

func values(memory []byte, page int) string {
	seen := map[byte]bool{}
	for i := 0; i < len(memory); i += page {
		seen[memory[i]] = true
	}
	var s []string
	for b := range seen {
		s = append(s, string(rune(b)))
	}
	return fmt.Sprintf("%d kinds %s", len(s), strings.Join(s, ""))
}

// disk ROLE [TEXT] prints the size of a disk and its first 16 bytes in hex,
// after writing TEXT there if one is given.
func disk(_ context.Context, p *Proc) int {
	d, err := p.Disk(p.Argv[1], len(p.Argv) > 2)
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 2
	}
	defer d.Close()
	if len(p.Argv) > 2 {
		_, err := d.WriteAt([]byte(p.Argv[2]), 0)
		if err == nil {
			err = d.Sync()
		}
		if err != nil {
			fmt.Fprintln(p.Stderr, err)
			return 3
		}
	}
	head := make([]byte, 16)
	if _, err := d.ReadAt(head, 0); err != nil {
		fmt.Fprintln(p.Stderr, err)
		return 4
	}
	size, _ := d.Size()
	fmt.Fprintln(p.Stdout, size, hex.EncodeToString(head))
	return 0
}
