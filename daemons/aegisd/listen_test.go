package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xfeldman/aegisvm/api"
)

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegisd.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := listenAt(path)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi.Mode(), err)
	}
	l.Close()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after the end: %v", err)
	}
}

func TestSocketThatAnswersIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "aegisd.sock")
	living, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Close()
	if _, err := listenAt(path); api.CodeOf(err) != api.Exists {
		t.Errorf("listen: %v", err)
	}
	if conn, err := net.Dial("unix", path); err != nil {
		t.Errorf("the other program lost its socket: %v", err)
	} else {
		conn.Close()
	}
}

func TestSocketPathThatNoSystemTakesIsExplained(t *testing.T) {
	_, err := listenAt("/" + strings.Repeat("a", 200))
	if api.CodeOf(err) != api.InvalidArgument || !strings.Contains(err.Error(), "AEGIS_HOME") {
		t.Errorf("listen: %v", err)
	}
}
