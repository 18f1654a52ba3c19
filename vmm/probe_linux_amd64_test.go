package vmm

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestProbeSaysWhyKVMIsNotUsable(t *testing.T) {
	began := time.Now()
	k, err := ProbeKVM(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("usable %v, reason %q, took %v", k.Usable, k.Reason, time.Since(began))
	if k.Usable == (k.Reason != "") {
		t.Errorf("usable %v and reason %q contradict each other", k.Usable, k.Reason)
	}
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if k.Usable && !hasVirtualisation(string(cpuinfo)) {
		t.Error("KVM is called usable on a processor without vmx and svm")
	}
}

func TestProbeGuestEndsWhateverTheKVMDoesWithIt(t *testing.T) {
	dev, err := openKVM()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer dev.Close()
	began := time.Now()
	err = runProbeGuest(t.Context(), dev, probeCode)
	t.Logf("guest said %v after %v", err, time.Since(began))
	if took := time.Since(began); took > 3*probeDeadline {
		t.Errorf("the probe took %v", took)
	}
}

func TestProbeGuestThatLoopsIsInterrupted(t *testing.T) {
	dev, err := openKVM()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	defer dev.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := runProbeGuest(ctx, dev, []byte{0xeb, 0xfe}); err == nil {
		t.Error("a guest that jumps to itself is called good")
	} else {
		t.Log(err)
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ProbeKVM(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestVirtualisationIsReadFromTheFlags(t *testing.T) {
	for name, c := range map[string]struct {
		cpuinfo string
		want    bool
	}{
		"intel":                    {"processor : 0\nflags\t\t: fpu vmx sse\n", true},
		"amd":                      {"flags : svm", true},
		"neither":                  {"flags : fpu sse\nmodel name : vmx svm\n", false},
		"other vmx lines":          {"vmx flags : vnmi\nflags : fpu\n", false},
		"part of another flag":     {"flags : svm_lock avmx\n", false},
		"empty":                    {"", false},
		"second processor has one": {"flags : a\n\nflags : a vmx\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := hasVirtualisation(c.cpuinfo); got != c.want {
				t.Errorf("%q: %v", strings.TrimSpace(c.cpuinfo), got)
			}
		})
	}
}

func TestADeviceOfRootAloneIsNoUseToMachines(t *testing.T) {
	for _, c := range []struct {
		mode, gid uint32
		want      bool
	}{
		{0o600, 0, false}, {0o660, 0, false}, {0o640, 103, false}, {0o660, 103, true}, {0o666, 0, true}, {0o606, 0, true},
	} {
		if got := machinesMayOpen(0o020000|c.mode, c.gid); got != c.want {
			t.Errorf("mode %04o, group %d: %v", c.mode, c.gid, got)
		}
	}
}
