package progress

import (
	"fmt"
	"os"
	"strings"
)

// Line is a line of a terminal that its owner rewrites.
type Line struct{ line }

// NewLine makes a line on a terminal; nothing is drawn yet.
func NewLine(terminal *os.File) *Line { return &Line{line{terminal: terminal}} }

// Draw replaces the line.
func (l *Line) Draw(text string) { l.draw(text) }

// Erase takes the line away.
func (l *Line) Erase() { l.erase() }

const barWidth = 20

// Bar shows how much of a total is done.
func Bar(done, total int64) string {
	if total <= 0 {
		return ""
	}
	done = min(max(done, 0), total)
	full := int(done * barWidth / total)
	return fmt.Sprintf("[%s%s] %3d%%", strings.Repeat("#", full), strings.Repeat(" ", barWidth-full), done*100/total)
}
