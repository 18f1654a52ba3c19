package vmmtest

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xfeldman/aegisvm/vmm"
)

// label is what a test writes to the head of a disk, and how the program
// disk prints it.
type label string

func (l label) String() string {
	b := make([]byte, 16)
	copy(b, l)
	return hex.EncodeToString(b)
}

// blank adds a disk of 1 MiB that starts with l.
func (s *suite) blank(p *vmm.Plan, r vmm.Role, l label, readOnly bool) *os.File {
	s.Helper()
	f, err := os.Create(filepath.Join(s.TempDir(), string(r)))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { f.Close() }) // whichever f is by then
	if err := f.Truncate(1 << 20); err != nil {
		s.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(l), 0); err != nil {
		s.Fatal(err)
	}
	if readOnly {
		f.Close()
		if f, err = os.Open(f.Name()); err != nil {
			s.Fatal(err)
		}
	}
	p.Disks = append(p.Disks, vmm.Disk{Role: r, ReadOnly: readOnly, File: f})
	return f
}

// testDisks gives the last slot and not the one before it.
func testDisks(s *suite) {
	p := s.Plan(s.T)
	f := s.blank(&p, vmm.RoleKit, "the kit", false)
	g := s.raw(p)
	g.identify()
	if got, want := g.run("disk", "kit").answer(), fmt.Sprint(1<<20, " ", label("the kit")); got != want {
		s.Errorf("kit disk reads %q, want %q", got, want)
	}
	if got, want := g.run("disk", "kit", "by the guest").answer(), fmt.Sprint(1<<20, " ", label("by the guest")); got != want {
		s.Errorf("kit disk reads %q after a write, want %q", got, want)
	}
	head := make([]byte, 12)
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "by the guest" {
		s.Errorf("the file starts with %q (%v) after the guest synced its write", head, err)
	}
}

func testReadOnly(s *suite) {
	p := s.Plan(s.T)
	f := s.blank(&p, vmm.RoleTools, "our tools", true)
	g := s.raw(p)
	g.identify()
	if got, want := g.run("disk", "tools").answer(), fmt.Sprint(1<<20, " ", label("our tools")); got != want {
		s.Errorf("tools disk reads %q, want %q", got, want)
	}
	w := g.run("disk", "tools", "by the guest")
	if st := w.ended(); st.Code == 0 {
		s.Error("the guest wrote to a read-only disk")
	}
	head := make([]byte, 9)
	if _, err := f.ReadAt(head, 0); err != nil || string(head) != "our tools" {
		s.Errorf("the read-only file starts with %q, %v", head, err)
	}
}

func testMissingDisks(s *suite) {
	p := s.Plan(s.T)
	p.Disks = slices.DeleteFunc(p.Disks, func(d vmm.Disk) bool {
		return d.Role == vmm.RoleTools || d.Role == vmm.RoleKit
	})
	g := s.raw(p)
	g.identify()
	for _, role := range []string{"tools", "kit"} {
		q := g.run("disk", role)
		msg, _ := io.ReadAll(deadline(s, q.stderr))
		if st := q.ended(); st.Code != 2 || !strings.Contains(string(msg), role) {
			s.Errorf("missing disk %s: status %+v, message %q", role, st, msg)
		}
	}
}
