package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/xfeldman/aegisvm/api"
)

// templateArgs make the empty file system. Every property is given, so that
// the host's mke2fs.conf decides nothing. A sparse file reads as zeros, so
// inode tables and journal need not be written: lazy_itable_init=0 tells the
// guest so (it would zero them in the background otherwise, and fill the
// sparse file), lazy_journal_init=1 skips the journal. With its metadata packed
// and no backups of the superblock, 16 GiB take 128 KiB in 4 extents.
var templateArgs = []string{
	"-q", "-F", "-b", "4096", "-I", "256", "-i", "16384", "-m", "0", "-L", "aegis-own",
	"-U", "7a3b1c52-0f1d-4f6e-9a77-ae915d15c000", "-J", "size=32",
	"-O", "none,has_journal,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super2,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,64bit",
	"-E", "root_owner=0:0,hash_seed=7a3b1c52-0f1d-4f6e-9a77-ae915d15c000,num_backup_sb=0,packed_meta_blocks=1,lazy_itable_init=0,lazy_journal_init=1",
}

var diskPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)

func (s *Local) diskPath(id string) (string, error) {
	if !diskPattern.MatchString(id) {
		return "", api.Errorf(api.InvalidArgument, "disk name %.80q: expected 1 to 63 letters, digits, dots, underscores and hyphens", id)
	}
	return filepath.Join(s.disks, id), nil
}

// CreateDisk makes the writable disk named id. It is whole or not there.
func (s *Local) CreateDisk(ctx context.Context, id string, size int64) error {
	path, err := s.diskPath(id)
	if err != nil {
		return err
	}
	if size < MinDisk || size > MaxDisk || size%(1<<20) != 0 {
		return api.Errorf(api.InvalidArgument, "disk of %d bytes: expected whole MiB, 256 to %d", size, MaxDisk>>20)
	}
	if _, err := os.Lstat(path); err == nil {
		return api.Errorf(api.Exists, "disk %q exists already", id)
	}
	release, err := lockFile(ctx, s.lock.Name(), unix.LOCK_SH)
	if err != nil {
		return failure(err)
	}
	defer release()
	if err := s.newDisk(ctx, path, size); errors.Is(err, fs.ErrExist) {
		return api.Errorf(api.Exists, "disk %q exists already", id)
	} else if err != nil {
		return failure(fmt.Errorf("create disk %q: %w", id, err))
	}
	return nil
}

// newDisk makes an empty file system beside path and gives it that name unless
// it is taken.
func (s *Local) newDisk(ctx context.Context, path string, size int64) error {
	to, err := os.CreateTemp(s.disks, ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name())
	defer to.Close()
	if err := s.empty(ctx, to, size); err != nil {
		return err
	}
	// A machine's worker gives the file to its own group, which must then be
	// able to write it.
	if err := to.Chmod(0o660); err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	return os.Link(to.Name(), path)
}

// empty makes a file an empty file system: one of the usual size by copying
// the template.
func (s *Local) empty(ctx context.Context, to *os.File, size int64) error {
	if size != DiskSize {
		return s.format(ctx, to, size)
	}
	from, err := s.openTemplate(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	return cloneFile(to, from)
}

// openTemplate opens the empty file system, which it makes the first time.
func (s *Local) openTemplate(ctx context.Context) (*os.File, error) {
	sum := sha256.Sum256([]byte(strings.Join(templateArgs, "\x00") + strconv.FormatInt(DiskSize, 10)))
	path := filepath.Join(s.disks, ".template-"+hex.EncodeToString(sum[:8]))
	f, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	unlock, err := s.template.lock(ctx, path)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if f, err := os.Open(path); err == nil {
		return f, nil
	}
	if err := s.makeTemplate(ctx, path); err != nil {
		return nil, fmt.Errorf("make an empty file system: %w", err)
	}
	return os.Open(path)
}

func (s *Local) makeTemplate(ctx context.Context, path string) error {
	tmp, err := os.CreateTemp(s.disks, ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := s.format(ctx, tmp, DiskSize); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// format makes an empty file system of size bytes in a file.
func (s *Local) format(ctx context.Context, f *os.File, size int64) error {
	program, err := findProgram(s.mke2fs)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append(templateArgs, f.Name())...)
	cmd.Env = []string{"MKE2FS_CONFIG=/dev/null", "E2FSPROGS_FAKE_TIME=1", "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		return fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(lines[len(lines)-1]))
	}
	return nil
}

// mke2fsPaths is where mke2fs may be, also where PATH of a daemon or of a user
// does not lead.
var mke2fsPaths = []string{"mke2fs", "/usr/sbin/mke2fs", "/sbin/mke2fs"}

func findProgram(names []string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", api.Errorf(api.Unavailable, "mke2fs is not installed: run apt install e2fsprogs")
}

// OpenDisk opens a writable disk read-write.
func (s *Local) OpenDisk(_ context.Context, id string) (*os.File, error) {
	path, err := s.diskPath(id)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, api.Errorf(api.NotFound, "there is no disk %q", id)
	}
	return f, failure(err)
}

// DeleteDisk deletes a writable disk; one that is not there is no error. Who
// has it open keeps it until closed.
func (s *Local) DeleteDisk(_ context.Context, id string) error {
	path, err := s.diskPath(id)
	if err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return failure(err)
	}
	return nil
}

// Disks tells the names of the writable disks.
func (s *Local) Disks(context.Context) ([]string, error) {
	entries, err := os.ReadDir(s.disks)
	if err != nil {
		return nil, failure(err)
	}
	ids := []string{}
	for _, e := range entries {
		if diskPattern.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
