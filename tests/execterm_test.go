package tests

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/creack/pty"

	"github.com/xfeldman/aegisvm/tests/testbed"
)

// sizedTerminal has a program draw on terminals of two sizes, each of which
// becomes the other one meanwhile. The test is the terminal: it answers where
// the cursor is.
func sizedTerminal(t *testing.T, h *testbed.Host) {
	program, err := os.ReadFile("testdata/terminal.py")
	if err != nil {
		t.Fatal(err)
	}
	small, large := pty.Winsize{Rows: 24, Cols: 80}, pty.Winsize{Rows: 60, Cols: 200}
	for _, sizes := range [][2]pty.Winsize{{small, large}, {large, small}} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		tty, err := pty.StartWithSize(h.Command(ctx, "aegis", "exec", "-it", "web", "python3", "-c", string(program)), &sizes[0])
		if err != nil {
			t.Fatal(err)
		}
		defer tty.Close() // hangs the program up
		defer context.AfterFunc(ctx, func() { tty.Close() })()
		for i, what := range []string{"size", "resized"} {
			s := sizes[i]
			if i > 0 {
				if err := pty.Setsize(tty, &s); err != nil {
					t.Fatal(err)
				}
			}
			drawn := screen(t, tty, fmt.Sprintf("%s %d %d\r\n\x1b[999;999H\x1b[6n", what, s.Rows, s.Cols))
			io.WriteString(tty, fmt.Sprintf("\x1b[%d;%dR", s.Rows, s.Cols))
			if !drawn || !screen(t, tty, fmt.Sprintf("corner %d %d\r\n", s.Rows, s.Cols)) {
				return
			}
		}
	}
}
