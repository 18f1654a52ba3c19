package program

import (
	"bufio"
	"context"
	"fmt"
)

var outputs = map[string]Program{"yes": yes, "lines": lines, "bytes": bytes}

// yes writes "y" lines until nobody reads.
func yes(ctx context.Context, p *Proc) int {
	block := make([]byte, 8<<10)
	for i := range block {
		block[i] = "y\n"[i%2]
	}
	for ctx.Err() == nil {
		if _, err := p.Stdout.Write(block); err != nil {
			return 1
		}
	}
	return 0
}

// lines writes so many numbered lines to stdout, each in a write of its own.
func lines(_ context.Context, p *Proc) int {
	for i := range number(p, 1, 1) {
		if _, err := fmt.Fprintf(p.Stdout, "line %d\n", i); err != nil {
			return 1
		}
	}
	return 0
}

// Pattern is byte i of what the program bytes writes: no newline, and a
// period that no power of two divides.
func Pattern(i int) byte { return 'A' + byte(i%251%26) }

// bytes writes so many bytes of Pattern to stdout and to stderr "done".
func bytes(_ context.Context, p *Proc) int {
	w := bufio.NewWriterSize(p.Stdout, 64<<10)
	for i := range number(p, 1, 1) {
		if w.WriteByte(Pattern(i)) != nil {
			return 1
		}
	}
	if w.Flush() != nil {
		return 1
	}
	fmt.Fprintln(p.Stderr, "done")
	return 0
}
