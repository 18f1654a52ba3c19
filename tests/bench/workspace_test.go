package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The repository that git is measured in.
const (
	repositoryDirs  = 200
	repositoryFiles = 100 // in each
)

// BenchmarkWorkspace runs git in one machine, on its own disk and in the
// workspace in turns. First means that the guest had nothing in its caches.
func BenchmarkWorkspace(b *testing.B) {
	h, folder := up(b), b.TempDir()
	hostGit(b, filepath.Join(folder, "git"))
	repository(b, folder)
	script, err := os.ReadFile("testdata/git.sh")
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "git.sh"), script, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	const own, ours = "/root/w", "/workspace"
	for b.Loop() {
		out := command(b, h, "run", "--memory", "1024", "--workspace", folder, "--", "sh", "/workspace/git.sh", own, ours)
		took := durations(b, out)
		for _, what := range []string{"first", "again", "add"} {
			mine, disk := median(took[what+" "+ours]), median(took[what+" "+own])
			b.ReportMetric(ms(mine), what+"-ms")
			b.ReportMetric(ms(disk), what+"-disk-ms")
			b.ReportMetric(float64(disk)/float64(mine), what+"-disk/workspace")
		}
		b.ReportMetric(0, "ns/op")
	}
}

// durations reads what the script says.
func durations(b *testing.B, out string) map[string][]time.Duration {
	b.Helper()
	took := map[string][]time.Duration{}
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue
		}
		n, err := strconv.ParseInt(words[2], 10, 64)
		if err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		took[words[0]+" "+words[1]] = append(took[words[0]+" "+words[1]], time.Duration(n))
	}
	if len(took) != 6 {
		b.Fatalf("the script said %q", out)
	}
	return took
}

// repository makes one in a folder, and an archive of it beside.
func repository(b *testing.B, folder string) {
	b.Helper()
	repo := filepath.Join(folder, "repo")
	for d := range repositoryDirs {
		dir := filepath.Join(repo, fmt.Sprint("dir", d))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Fatal(err)
		}
		for f := range repositoryFiles {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", f)), fmt.Appendln(nil, d, f), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, argv := range [][]string{
		{"git", "-C", repo, "init", "-q"},
		{"git", "-C", repo, "add", "."},
		{"git", "-C", repo, "-c", "gc.auto=0", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"},
		{"tar", "-C", folder, "-cf", filepath.Join(folder, "repo.tar"), "repo"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}

// hostGit copies this host's git with all that it is linked to: the base image
// has none.
func hostGit(b *testing.B, folder string) {
	b.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		b.Skip("git is missing")
	}
	out, err := exec.Command("ldd", git).Output()
	if err != nil {
		b.Skipf("ldd %s: %v", git, err)
	}
	files := map[string]string{"git": git}
	for line := range strings.Lines(string(out)) {
		for _, word := range strings.Fields(line) {
			if !filepath.IsAbs(word) {
				continue
			}
			name := filepath.Base(word)
			if strings.HasPrefix(name, "ld-") {
				name = "ld.so"
			}
			files[name] = word
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		b.Fatal(err)
	}
	for name, from := range files {
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, name), content, 0o755)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
