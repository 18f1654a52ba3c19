package progress

import "testing"

func TestBarShowsHowMuchIsDone(t *testing.T) {
	for want, c := range map[string][2]int64{
		"":                            {1, 0},
		"[                    ]   0%": {0, 10},
		"[##########          ]  50%": {5 << 40, 10 << 40},
		"[####################] 100%": {11, 10},
	} {
		if got := Bar(c[0], c[1]); got != want {
			t.Errorf("%v: %q, want %q", c, got, want)
		}
	}
}

func TestOwnedLineIsErased(t *testing.T) {
	term, content := terminal(t)
	l := NewLine(term)
	l.Draw("one")
	l.Draw("one")
	l.Erase()
	if got := content(); got != "\raegis: one\x1b[K\r\x1b[K" {
		t.Errorf("got %q", got)
	}
}
