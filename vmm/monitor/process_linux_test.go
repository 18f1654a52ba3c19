package monitor

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, script string, files ...*os.File) *Process {
	t.Helper()
	p, err := Start("/bin/sh", []string{"-c", script}, files, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDeathSaysHowAndTheLastWords(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":                         "",
		"exit 3":                         "sh exited with status 3",
		"echo a; echo b >&2; exit 1":     "sh exited with status 1: a; b",
		"kill -9 $$":                     "sh was killed by signal 9 (killed)",
		"echo bad news >&2; kill -11 $$": "sh was killed by signal 11 (segmentation fault): bad news",
	} {
		p := start(t, script)
		<-p.Done()
		if got := p.Death(); got != want {
			t.Errorf("%q: %q, want %q", script, got, want)
		}
	}
}

func TestAProcessThatDiesBeforeItIsPlacedSaysHow(t *testing.T) {
	for script, want := range map[string]string{
		"exit 0":                        "starting /bin/sh: it exited at once, without a word",
		"echo no such option; exit 2":   "starting /bin/sh: sh exited with status 2: no such option",
		"echo aborting >&2; kill -6 $$": "starting /bin/sh: sh was killed by signal 6 (aborted): aborting",
	} {
		_, err := Start("/bin/sh", []string{"-c", script}, nil, func(pid int) error {
			// Until it is dead, but not yet collected: as the kernel refuses it.
			if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil && err != unix.ECHILD {
				t.Error(err)
			}
			return fmt.Errorf("limiting the monitor: %w", unix.ESRCH)
		})
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, %q expected", script, err, want)
		}
	}
	_, err := Start("/bin/sh", []string{"-c", "exec sleep 1000"}, nil, func(int) error { return unix.EPERM })
	if !errors.Is(err, unix.EPERM) {
		t.Errorf("error %v", err)
	}
}

func TestAMissingBinaryIsAnError(t *testing.T) {
	if _, err := Start("/no/such/monitor", nil, nil, nil); err == nil || !strings.Contains(err.Error(), "/no/such/monitor") {
		t.Errorf("error %v", err)
	}
}

func TestOurOtherDescriptorsAreNotInherited(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	other, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p := start(t, fmt.Sprintf("test -e /proc/$$/fd/%d; echo $? >&3", other.Fd()), w)
	w.Close()
	if b, err := io.ReadAll(r); string(b) != "1\n" || err != nil {
		t.Errorf("descriptor %d of ours in the child: test says %q, %v", other.Fd(), b, err)
	}
	<-p.Done()
}

// TestMonitorsDieWithTheirParent runs itself as the parent.
func TestMonitorsDieWithTheirParent(t *testing.T) {
	if os.Getenv("AEGIS_TEST_PARENT") != "" {
		p := start(t, "echo $$ >&3; exec sleep 1000", os.Stdout)
		<-p.Done()
		return
	}
	parent := exec.Command(os.Args[0], "-test.run=^TestMonitorsDieWithTheirParent$")
	parent.Env = append(os.Environ(), "AEGIS_TEST_PARENT=1")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("pid: %v", err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	defer unix.Close(fd)
	parent.Process.Kill()
	parent.Wait()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Errorf("the monitor lives on: %d, %v", n, err)
	}
}

func TestDiskDescriptorsAllowNoMoreThanTheDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	rw, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer rw.Close()
	ro, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if _, _, err := DiskFile(ro, false); err == nil {
		t.Error("a writable disk on a read-only descriptor was taken")
	}
	for _, f := range []*os.File{rw, ro} {
		got, again, err := DiskFile(f, true)
		if err != nil {
			t.Fatal(err)
		}
		if again != (f == rw) {
			t.Errorf("%v was opened again: %v", f, again)
		}
		if _, err := got.WriteAt([]byte("x"), 0); err == nil {
			t.Error("a read-only disk's descriptor can write")
		}
		if again {
			got.Close()
		}
	}
}
