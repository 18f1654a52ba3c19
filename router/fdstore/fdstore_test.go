package fdstore

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// systemd is the other end of a store.
func systemd(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func heard(t *testing.T, c *net.UnixConn) (string, int) {
	t.Helper()
	b, oob := make([]byte, 1024), make([]byte, 1024)
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			files++
			unix.Close(fd)
		}
	}
	return string(b[:n]), files
}

func TestADescriptorIsReallySent(t *testing.T) {
	c := systemd(t)
	if err := Open().Keep("port.a", os.Stdin); err != nil {
		t.Fatal(err)
	}
	if text, files := heard(t, c); text != "FDSTORE=1\nFDPOLL=0\nFDNAME=port.a" || files != 1 {
		t.Errorf("heard %q with %d descriptors", text, files)
	}
	if err := Open().Drop("port.a"); err != nil {
		t.Fatal(err)
	}
	if text, files := heard(t, c); text != "FDSTOREREMOVE=1\nFDNAME=port.a" || files != 0 {
		t.Errorf("heard %q with %d descriptors", text, files)
	}
}

func TestWithoutSystemdNothingIsKept(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Open().Keep("port.a", os.Stdin); err != nil {
		t.Error(err)
	}
}
