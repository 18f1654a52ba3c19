package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xfeldman/aegisvm/tests/testbed"
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
	hostProgram(b, "git", filepath.Join(folder, "git"))
	repository(b, folder)
	inTurns(b, h, folder, "git.sh", "first", "again", "add")
}

// BenchmarkNpm runs `npm ci` of a project of a hundred packages likewise. It
// takes a registry to fill the cache.
func BenchmarkNpm(b *testing.B) {
	h, folder := up(b), b.TempDir()
	hostProgram(b, "node", filepath.Join(folder, "programs"))
	npm, err := exec.LookPath("npm")
	if err == nil {
		npm, err = filepath.EvalSymlinks(npm)
	}
	if err != nil {
		b.Skipf("npm is missing: %v", err)
	}
	project := filepath.Join(folder, "project")
	if err := errors.Join(os.CopyFS(filepath.Join(folder, "npm"), os.DirFS(filepath.Dir(filepath.Dir(npm)))),
		os.CopyFS(project, os.DirFS("testdata/project"))); err != nil {
		b.Fatal(err)
	}
	registry, err := exec.Command(npm, "config", "get", "registry").Output()
	if err == nil { // a lock file may not tell where its packages are from
		err = os.WriteFile(filepath.Join(project, ".npmrc"), append([]byte("registry="), registry...), 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	install := exec.Command(npm, "install", "--omit-lockfile-registry-resolved=false", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", filepath.Join(folder, "cache"))
	install.Dir = project
	if out, err := install.CombinedOutput(); err != nil {
		b.Skipf("npm install: %v\n%s", err, out)
	}
	inTurns(b, h, folder, "npm.sh", "ci")
}

// inTurns runs a script in a machine that does the same on its own disk and in
// the workspace.
func inTurns(b *testing.B, h *testbed.Host, folder, name string, works ...string) {
	b.Helper()
	script, err := os.ReadFile(filepath.Join("testdata", name))
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name), script, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
	const own, ours = "/root/w", "/workspace/w"
	for b.Loop() {
		out := command(b, h, "run", "--memory", "1024", "--workspace", folder, "--", "sh", "/workspace/"+name, own, ours)
		took := durations(b, out, 2*len(works))
		for _, what := range works {
			mine, disk := median(took[what+" "+ours]), median(took[what+" "+own])
			b.ReportMetric(ms(mine), what+"-ms")
			b.ReportMetric(ms(disk), what+"-disk-ms")
			b.ReportMetric(float64(disk)/float64(mine), what+"-disk/workspace")
		}
		b.ReportMetric(0, "ns/op")
	}
}

// durations reads what the script says of so many kinds of work.
func durations(b *testing.B, out string, kinds int) map[string][]time.Duration {
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
	if len(took) != kinds {
		b.Fatalf("the script said %q", out)
	}
	return took
}

// repository makes one in a folder, and an archive of it beside.
func repository(b *testing.B, folder string) {
	b.Helper()
	repo := filepath.Join(folder, "w", "repo")
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
		{"tar", "-C", filepath.Dir(repo), "-cf", filepath.Join(folder, "repo.tar"), "repo"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			b.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}

// hostProgram copies a program of this host with all that it is linked to: the
// base image has none of those that are measured.
func hostProgram(b *testing.B, name, folder string) {
	b.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		b.Skipf("%s is missing", name)
	}
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		b.Skipf("ldd %s: %v", program, err)
	}
	files := map[string]string{name: program}
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
