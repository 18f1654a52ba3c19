package manager

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestALackOfDescriptorsDoesNotMeanThatAProcessIsGone(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	p, err := findProcess(os.Getpid(), nil)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		t.Errorf("without descriptors a process is found: %+v", p)
	}
	const none = 1<<22 + 1 // above the highest number that Linux gives
	if p, err = findProcess(none, nil); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
}
