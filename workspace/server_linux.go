package workspace

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Config is what a server serves.
type Config struct {
	// Root is the folder, open for any access or none (O_PATH).
	Root *os.File
	// State is a folder of the server's own. The next server of the same guest
	// must get it as this one leaves it.
	State string
	Log   *slog.Logger
}

// Server serves one folder.
type Server struct {
	tree     tree
	table    *table
	files    *files
	listings listings
	replies  *replies
	log      *slog.Logger
	uid, gid uint32
	powerful bool // files of others are ours to read, write and give away
	verifier [8]byte
	mount    uint64 // of the folder; what is mounted in it is not served

	// names is held by calls that change names, and shared by those that find
	// out which there are.
	names sync.RWMutex

	mu      sync.Mutex // guards the field below
	current *conn      // the guest's connection
}

// Open makes a server with the rights that this process has.
func Open(c Config) (*Server, error) {
	st, err := stat(fd(c.Root.Fd()))
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	if kindOf(&st) != unix.S_IFDIR {
		return nil, errors.New("workspace: it is no folder")
	}
	t, err := openTable(filepath.Join(c.State, "journal"), keyOf(&st), unix.S_IFDIR)
	if err != nil {
		return nil, fmt.Errorf("workspace: %w", err)
	}
	s := &Server{
		tree: tree{c.Root}, table: t, files: newFiles(), replies: newReplies(), log: c.Log,
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()), powerful: powerful(), mount: st.Mnt_id,
	}
	if s.verifier, err = verifier(); err != nil {
		t.journal.close()
		return nil, fmt.Errorf("workspace: %w", err)
	}
	return s, nil
}

// powerful tells whether this process is root with the powers of root. Under
// systemd root's servers are without.
func powerful() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	const needed = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER
	return os.Geteuid() == 0 && unix.Capget(&head, &caps[0]) == nil && caps[0].Effective&needed == needed
}

// verifier tells the guest whether what it has written may be lost. The host
// keeps it when a server is killed, and loses it when it is booted.
func verifier() (v [8]byte, err error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return v, err
	}
	sum := sha256.Sum256(id)
	return [8]byte(sum[:]), nil
}

// Close ends the server; no connection must be served any more.
func (s *Server) Close() error {
	s.files.close()
	return s.table.journal.close()
}
