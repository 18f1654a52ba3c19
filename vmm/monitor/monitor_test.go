package monitor

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/vmm"
)

// after runs a console over chunks and returns its file's content.
func after(t *testing.T, chunks ...string) (*Console, string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := NewConsole(f)
	r, w := io.Pipe()
	go func() {
		for _, s := range chunks {
			io.WriteString(w, s)
		}
		w.Close()
	}()
	c.Copy(r)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return c, string(b)
}

func TestConsoleFindsThePanic(t *testing.T) {
	for name, c := range map[string]struct {
		chunks []string
		want   string
	}{
		"no panic":          {[]string{"all is well\n"}, ""},
		"whole line":        {[]string{"[1.0] Kernel panic - not syncing: no init\nCPU: 0\n"}, "Kernel panic - not syncing: no init"},
		"cut in two":        {[]string{"Kernel pan", "ic - not syncing: a", "b\r\n"}, "Kernel panic - not syncing: ab"},
		"line without end":  {[]string{"Kernel panic - not syncing: half"}, "Kernel panic - not syncing: half"},
		"first of two":      {[]string{"Kernel panic - not syncing: 1\n", "Kernel panic - not syncing: 2\n"}, "Kernel panic - not syncing: 1"},
		"long before":       {[]string{"Kernel panic - not syncing: early\n", strings.Repeat("x", 3*maxTail)}, "Kernel panic - not syncing: early"},
		"control sequences": {[]string{"Kernel panic - not syncing: \x1b[31mred\x00\xff\n"}, "Kernel panic - not syncing: [31mred"},
	} {
		t.Run(name, func(t *testing.T) {
			console, _ := after(t, c.chunks...)
			if got := console.Panic(); got != c.want {
				t.Errorf("panic %q, want %q", got, c.want)
			}
		})
	}
}

func TestConsoleFileIsWholeUpToItsLimit(t *testing.T) {
	want := strings.Repeat("0123456789abcde\n", 1000)
	if _, got := after(t, want); got != want {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	_, got := after(t, strings.Repeat("z", MaxConsole-1), "yy", "never seen")
	if len(got) != MaxConsole+len(notice) || !strings.HasSuffix(got, "zy"+notice) {
		t.Errorf("%d bytes that end with %q", len(got), got[len(got)-70:])
	}
}

func TestConsoleSurvivesAFileThatFails(t *testing.T) {
	f, err := os.Open(os.DevNull) // not for writing
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := NewConsole(f)
	c.Copy(strings.NewReader("Kernel panic - not syncing: x\n"))
	if c.Panic() == "" {
		t.Error("panic not found")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var tl tail
	for range 1000 {
		tl.Write(bytes.Repeat([]byte("a"), 99))
		tl.Write([]byte("\n"))
	}
	tl.Write([]byte("one\ntwo\nthree\nfour\n"))
	if len(tl.b) != maxTail {
		t.Errorf("kept %d bytes", len(tl.b))
	}
	if got := tl.lines(3); got != "two; three; four" {
		t.Errorf("last lines %q", got)
	}
}

func TestPrintableIsOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\tc\r\n":            "a b c",
		"\x1b]0;title\x07":       "]0;title",
		"ünï":                    "ünï",
		"\xff\xfe":               "",
		strings.Repeat("a", 600): strings.Repeat("a", maxPrintable) + "...",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestPlansThatNoMonitorTakesAreRefusedInWords(t *testing.T) {
	good := vmm.Plan{ID: "m-1", MemoryMiB: 128, VCPUs: 1}
	if err := Check(good); err != nil {
		t.Fatalf("good plan refused: %v", err)
	}
	for want, spoil := range map[string]func(*vmm.Plan){
		`machine id ""`:              func(p *vmm.Plan) { p.ID = "" },
		`machine id "a,b"`:           func(p *vmm.Plan) { p.ID = "a,b" },
		`machine id "aaaaaaaaaaaaaa`: func(p *vmm.Plan) { p.ID = strings.Repeat("a", 33) },
		"0 MiB":                      func(p *vmm.Plan) { p.MemoryMiB = 0 },
		"-1 processors":              func(p *vmm.Plan) { p.VCPUs = -1 },
		`disk "floppy": one of`:      func(p *vmm.Plan) { p.Disks = []vmm.Disk{{Role: "floppy", File: os.Stdin}} },
		`disk "own" has no file`:     func(p *vmm.Plan) { p.Disks = []vmm.Disk{{Role: vmm.RoleOwn}} },
		`disk "own" is there twice`: func(p *vmm.Plan) {
			p.Disks = []vmm.Disk{{Role: vmm.RoleOwn, File: os.Stdin}, {Role: vmm.RoleOwn, File: os.Stdin}}
		},
	} {
		p := good
		spoil(&p)
		if err := Check(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
